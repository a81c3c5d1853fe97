"""The learner: samples in, updated weights and metrics out.

It knows no environment, no Ray and no serving engine.
"""

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.loss import LossRule
from agent_rl.learner.memory import FREE_AFTER, return_free_memory
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.optimizer import ScheduledOptimizer
from agent_rl.learner.passes import Passes
from agent_rl.learner.plan import StepPlan, micro_batches
from agent_rl.learner.probe import Probe
from agent_rl.learner.ranks import Ranks
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.scoring import Scorer, Scores
from agent_rl.learner.sharding import load_sharded, save_sharded
from agent_rl.learner.update import Update
from agent_rl.policy.loading import decoder_and_head
from agent_rl.policy.unread import read_weights, to_device
from agent_rl.runs.layout import LEARNER_STATE
from rollouts.serving.dtypes import chosen_dtype

_SHARDS = "shards"
"""Weights and optimizer state of a saved learner; `LEARNER_STATE` has counters and the shuffle."""


@dataclass(frozen=True, kw_only=True)
class LearnerContext:
    """The facts of a run that a learner needs, besides its settings."""

    total_steps: int
    """The optimizer steps of the whole run; the linear and cosine schedules reach 0 there."""
    temperature: float = 1.0
    """The sampler's. Log-probs are those of the distribution that was sampled from."""
    seed: int = 0
    """Of the shuffle of samples into optimizer steps."""
    most_agent_tokens: int = 1024
    """The most agent tokens of an episode: the default of `normalisation_length`."""
    reference: PreTrainedModel | None = None
    """The policy that `beta` compares with. None with a `beta` is the trained model without its
    LoRA adapter.
    """
    failure_folder: Path | None = None
    """The folder that gets a batch whose loss is not finite; without one it is not kept."""
    keep_token_records: bool = False
    """Whether `Learner.token_records` has the numbers of the last update."""


class Learner:
    """Trains on a policy objective or on cross-entropy, in whole optimizer steps.

    An optimizer step is any number of micro-batches, and any number of ranks: the gradient is the
    same up to rounding.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        context: LearnerContext,
        *,
        ranks: Ranks | None = None,
    ) -> None:
        """Move the model to the device and prepare it for packs.

        Args:
            model: a causal language model, changed in place. Weights that need no gradient stay.
                Those that are still in their files (`agent_rl.policy.unread`) are read.
            settings: of the learner.
            context: of the run.
            ranks: the processes that share the work; None is this process alone. Each rank has a
                `Learner`, and all get the same calls.
        """
        assert settings.beta or context.reference is None, "a reference policy is for beta"
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = _device(settings)
        self.model = to_device(model, self.device)
        self.settings = settings
        self.dtype = chosen_dtype(settings.dtype, gpu=self.device.type == "cuda")
        self._keeps_records = context.keep_token_records
        self._token_records: dict[str, Tensor] = {}
        self._rule = LossRule(
            settings, context.most_agent_tokens, with_weights=context.keep_token_records
        )
        self._ranks = ranks or Ranks()
        self._random = random.Random(context.seed)
        self._tokens_since_return = 0
        # Sharding replaces the parameters, so the optimizer is made after it.
        self._scorer = self._new_scorer(self.model, context.temperature)
        self._reference: Scorer | None = None
        if context.reference is not None:
            frozen = to_device(context.reference.requires_grad_(False), self.device)
            self._reference = self._new_scorer(frozen, context.temperature)
        self._optimizer = ScheduledOptimizer(
            self._scorer.model,
            [p for p in self._scorer.parameters() if p.requires_grad],
            settings,
            total_steps=context.total_steps,
            ranks=self._ranks,
        )
        self._passes = Passes(
            self._scorer,
            self._optimizer,
            settings,
            ranks=self._ranks,
            device=self.device,
            failure_folder=context.failure_folder,
        )
        self._probe: Probe | None = None
        if settings.probe:
            rule = LossRule(settings.of_probe(), context.most_agent_tokens)
            self._probe = Probe(
                name=settings.probe, rule=rule, every=settings.probe_every, passes=self._passes
            )

    @property
    def learning_rate(self) -> float:
        """AdamW's rate at the next optimizer step."""
        return self._optimizer.learning_rate

    @property
    def optimizer_steps_taken(self) -> int:
        """The number of optimizer steps since the run began."""
        return self._optimizer.steps_taken

    @torch.no_grad()
    def logprobs(self, samples: Sequence[TrainingSample]) -> Tensor:
        """Return log-probs of the agent's tokens, [N], sample after sample, on the device."""
        scores: Scores = self._scorer(self._passes.batch(samples))
        return scores.logprobs_N

    @torch.no_grad()
    def mean_entropy(self, samples: Sequence[TrainingSample]) -> float:
        """Return the mean entropy of the agent's tokens, in nats, in one rank."""
        blocks = micro_batches(
            samples,
            self.settings.micro_batch_tokens,
            share_prefixes=self.settings.share_prefixes,
        )
        whole, tokens = 0.0, 0
        for block in blocks:
            for micro_batch in block:
                of_pass = [samples[i] for i in micro_batch]
                scores: Scores = self._scorer(self._passes.batch(of_pass))
                whole += float(scores.entropy_N.double().sum())
                tokens += scores.entropy_N.numel()
        return whole / tokens

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """Train on one rollout step's samples: `optimizer_steps` steps, every sample once.

        An episode whose advantages are all 0 has no gradient. It counts in the divisors but does
        not go through the model, unless KL or entropy need it. An optimizer step of such episodes
        only is skipped, but the schedule moves along.

        Returns:
            The metrics of `agent_rl.learner.metrics` and `throughput`, over all ranks.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the weights are as the last good
                step left them.
        """
        update = Update(
            samples,
            self._passes,
            self._rule.at(self._optimizer.run_done),
            dtype=self.dtype,
            reference=self._reference,
            rng=self._random,
            probe=self._probe,
        )
        metrics = update.run()
        self._token_records = update.token_records() if self._keeps_records else {}
        self._bound_memory(samples)
        return metrics

    def token_records(self) -> dict[str, Tensor]:
        """Return numbers of each token that the last update trained, in the order of its samples.

        They are the fields of `TokenRecord` by their names, `sample` (the index of the token's
        sample in the update) and `optimizer_step` (from 1), each [N], of all ranks. Samples that
        did not go through the model are not in it. It is empty if nothing was trained, or without
        `LearnerContext.keep_token_records`.
        """
        return self._token_records

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """Take one optimizer step of cross-entropy, the mean over all agent tokens.

        Args:
            samples: with at least one agent token. Their advantages are not used.

        Returns:
            loss, grad_norm, entropy (nats), token_accuracy (of greedy decoding), learning_rate,
            tokens, trained_tokens and seconds.

        Raises:
            FloatingPointError: as `update`.
        """
        start = time.perf_counter()
        agent_tokens = sum(sample.agent_tokens for sample in samples)
        assert agent_tokens, "a supervised step needs at least one agent token"
        learning_rate = self.learning_rate
        trained = [i for i, sample in enumerate(samples) if sample.agent_tokens]
        plan = StepPlan.of(
            samples,
            trained,
            max_tokens=self.settings.micro_batch_tokens,
            ranks=self._ranks.size,
            share_prefixes=self.settings.share_prefixes,
        )
        # Each token has its own term of this loss, so blocks may be cut into their passes.
        sums = {"loss": 0.0, "entropy": 0.0, "correct": 0.0}
        for block in plan.blocks[self._ranks.rank]:
            for micro_batch in block:
                batch = self._passes.batch([samples[i] for i in micro_batch])
                scores: Scores = self._scorer(batch)
                loss = -scores.logprobs_N.sum() / agent_tokens
                self._passes.backward(loss, batch)
                sums["loss"] += float(loss.detach())
                sums["entropy"] += float(scores.entropy_N.sum())
                sums["correct"] += float(scores.correct_N.sum())
        self._passes.idle(plan.passes - plan.passes_of(self._ranks.rank), gradient=True)
        of_ranks = self._ranks.gather(
            {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        )
        total = {name: sum(float(of_rank[name]) for of_rank in of_ranks) for name in sums}
        self._bound_memory(samples)
        return {
            "loss": total["loss"],
            "grad_norm": self._optimizer.step(),
            "entropy": total["entropy"] / agent_tokens,
            "token_accuracy": total["correct"] / agent_tokens,
            "learning_rate": learning_rate,
            "tokens": float(sum(len(sample.token_ids) for sample in samples)),
            "trained_tokens": float(agent_tokens),
            "seconds": time.perf_counter() - start,
        }

    def save(self, folder: Path) -> None:
        """Write weights, optimizer, schedule, shuffle and step count into a new folder.

        Every rank calls this.
        """
        save_sharded(folder / _SHARDS, self._scorer, self._optimizer.inner)
        if self._ranks.rank == 0:
            state = {
                "schedule_step": self._optimizer.schedule_step,
                "optimizer_steps_taken": self.optimizer_steps_taken,
                "random": self._random.getstate(),
            }
            (folder / LEARNER_STATE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Continue from a folder that `save` wrote, in any number of ranks.

        Every rank calls this.

        Raises:
            ValueError: the folder is not whole, or of another model.
        """
        try:
            state = json.loads((folder / LEARNER_STATE).read_text())
            version, internal, gauss = state["random"]
            schedule_step = int(state["schedule_step"])
            steps_taken = int(state["optimizer_steps_taken"])
            self._random.setstate((version, tuple(internal), gauss))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(f"{folder / LEARNER_STATE}: missing or damaged ({error!r})") from error
        load_sharded(folder / _SHARDS, self._scorer, self._optimizer.inner)
        self._optimizer.schedule_step = schedule_step
        self._optimizer.steps_taken = steps_taken

    def _bound_memory(self, samples: Sequence[TrainingSample]) -> None:
        """Give the system free memory back, once in many tokens, after samples were trained."""
        self._tokens_since_return += sum(len(sample.token_ids) for sample in samples)
        if self.device.type == "cpu" and self._tokens_since_return >= FREE_AFTER:
            return_free_memory()
            self._tokens_since_return = 0

    def _new_scorer(self, model: PreTrainedModel, temperature: float) -> Scorer:
        """Return the scorer of a model, with its weights divided among the ranks."""
        in_bfloat16 = self.dtype == "bfloat16"
        _, head = decoder_and_head(model)
        scorer = Scorer(
            model,
            temperature=temperature,
            autocast=in_bfloat16,
            logit_chunk=self.settings.most_logit_rows(head.out_features),
            activation_checkpointing=self.settings.activation_checkpointing,
        )
        scorer = self._ranks.shard(scorer, bfloat16=in_bfloat16)
        read_weights(scorer, self.device)
        return scorer


def _device(settings: LearnerSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: cuda, but torch sees no CUDA device; "
            "use device: auto or cpu, or install a CUDA torch"
        )
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)
