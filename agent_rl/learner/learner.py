"""The learner: samples in, updated weights and metrics out. It knows no environment, Ray or serving
engine.
"""

import json
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import Batch, TrainingSample, micro_batches
from agent_rl.learner.loss import LossRule, ScoredTokens, StepCounts
from agent_rl.learner.metrics import Metrics, Throughput, TokenRecord, update_metrics
from agent_rl.learner.optimizer import FULL_RATE, make_optimizer
from agent_rl.learner.plan import MicroBatch, StepPlan, plan_update
from agent_rl.learner.ranks import ONE, Ranks
from agent_rl.learner.schedule import learning_rate_factor
from agent_rl.learner.scoring import Scorer, Scores
from agent_rl.learner.sharding import full_state_dict, load_sharded, save_sharded
from agent_rl.policy.lora import adapter_off
from rollouts.serving.dtypes import chosen_dtype

Logprobs = dict[int, Tensor]
"""Of the agent's tokens of samples, by the samples' indices."""
_SHARDS, _STATE = "shards", "learner.json"
_IDLE = TrainingSample(
    token_ids=(0, 0), action_mask=(False, True), behavior_logprobs=(0.0, 0.0), advantages=(0.0,)
)


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """A micro-batch of an optimizer step.

    Where the policy loss had to be worked out before, `slope_N` is its gradient, and `known_loss`
    this pass's part.
    """

    batch: Batch
    samples: MicroBatch
    slope_N: Tensor | None = None
    share_N: Tensor | None = None
    known_loss: float = 0.0


class Learner:
    """Trains on a policy objective or on cross-entropy, in whole optimizer steps of any number of
    micro-batches.

    Args:
        model: a causal language model; moved to the device and changed in place. Weights that need
        no gradient stay.
        settings: `LearnerSettings`.
        total_steps: the optimizer steps of the whole run, where the linear and cosine schedules
        reach 0.
        temperature: the sampler's; log-probs are those of the distribution that was sampled from.
        seed: of the shuffle of samples into optimizer steps.
        most_agent_tokens: what `normalisation: constant` divides by, where the settings leave it
        open.
        reference: the policy that `beta` compares with; None with a `beta` is `model` with its LoRA
        adapter off.
        ranks: the processes that share the work: each has a `Learner`, which gets the same calls.
        evidence: the folder that gets a batch whose loss is not finite; without one it is not kept.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        *,
        total_steps: int,
        temperature: float = 1.0,
        seed: int = 0,
        most_agent_tokens: int = 1024,
        reference: PreTrainedModel | None = None,
        ranks: Ranks = ONE,
        evidence: Path | None = None,
    ) -> None:
        assert settings.beta or reference is None, "a reference policy is for beta"
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = _device(settings)
        self.model = model.to(self.device)  # type: ignore[arg-type]
        self.settings = settings
        self.dtype = chosen_dtype(settings.dtype, gpu=self.device.type == "cuda")
        self.optimizer_steps_taken = 0
        self._rule = LossRule(settings, most_agent_tokens)
        self._ranks = ranks
        self._evidence = evidence
        self._random = random.Random(seed)
        self._temperature = temperature
        self._scorer = ranks.shard(self._new_scorer(self.model))
        self._reference = (
            None if reference is None else self._new_scorer(reference.requires_grad_(False))
        )
        self._parameters = [p for p in self._scorer.parameters() if p.requires_grad]
        self._optimizer = make_optimizer(self._scorer.model, self._parameters, settings)
        self._total_steps = total_steps
        self._schedule_step = 0

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        return self.settings.learning_rate * self._rate_factor

    @property
    def _rate_factor(self) -> float:
        return learning_rate_factor(self._schedule_step, self.settings, self._total_steps)

    @torch.no_grad()
    def logprobs(self, samples: Sequence[TrainingSample]) -> Tensor:
        """Log-probs of the agent's tokens, [N], sample after sample, on the learner's device."""
        scores: Scores = self._scorer(self._batch(samples))
        return scores.logprobs_N

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """Train on one rollout step's samples: `optimizer_steps` steps, every sample used once.

        An episode whose advantages are 0 has no gradient: it counts in the divisors, and its passes
        are saved, unless KL or entropy need them. An optimizer step without any other episode is
        not taken, but the schedule moves on. The metrics are those of `agent_rl.learner.metrics`,
        over all ranks.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the weights are as the last good
            step left them.
        """
        assert samples, "an update needs at least one sample"
        throughput = Throughput(self._scorer, self.device, self.dtype)
        learning_rate = self.learning_rate
        steps = plan_update(
            samples,
            optimizer_steps=self.settings.optimizer_steps,
            max_tokens=self.settings.micro_batch_tokens,
            ranks=self._ranks.size,
            share_prefixes=self.settings.share_prefixes,
            needed=lambda sample: self._rule.every_episode_counts or sample.has_gradient,
            rng=self._random,
        )
        plans = [plan for _, plan in steps]
        old = self._before(self._scorer, samples, plans, throughput) if self._needs_old_pass else {}
        reference = self._reference_logprobs(samples, plans, throughput)
        records: list[TokenRecord] = []
        taken: list[Metrics] = []
        for indices, plan in steps:
            if not plan.passes:
                self._schedule_step += 1
                continue
            counts = StepCounts.of([samples[i] for i in indices])
            loss, before = 0.0, len(records)
            for one in self._passes(samples, plan, counts, old, reference, records, throughput):
                loss += self._learn_from(one, counts, old, reference, records)
                throughput.count(one.batch, passes=3)
            self._idle(plan.passes - plan.passes_of(self._ranks.rank), gradient=True)
            learned = self._rule.every_episode_counts or any(
                bool((~r.left_out).any()) for r in records[before:]
            )
            parts = self._ranks.gather((loss, learned))
            if not any(learned for _, learned in parts):
                # All of it was left out: a step of the optimizer would still move by momentum and
                # decay.
                self._optimizer.zero_grad()
                self._schedule_step += 1
                continue
            taken.append(
                {"loss": sum(loss for loss, _ in parts), "grad_norm": self._optimizer_step()}
            )
        gathered = [record for of_rank in self._ranks.gather(records) for record in of_rank]
        return {
            **update_metrics(taken, gathered),
            "learning_rate": learning_rate,
            "optimizer_steps": float(len(taken)),
            **throughput.metrics(
                sum(len(s.token_ids) for s in samples), self._ranks.gather(throughput.work)
            ),
        }

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """One optimizer step of cross-entropy, mean over all agent tokens of `samples`; advantages
        are not read.

        Raises:
            FloatingPointError: as `update`.
        """
        start = time.perf_counter()
        agent_tokens = sum(s.agent_tokens for s in samples)
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
        sums = {"loss": 0.0, "entropy": 0.0, "correct": 0.0}
        for block in plan.blocks[self._ranks.rank]:
            for pack in block:
                batch = self._batch([samples[i] for i in pack])
                scores: Scores = self._scorer(batch)
                loss = -scores.logprobs_N.sum() / agent_tokens
                self._backward(loss, batch)
                sums["loss"] += float(loss.detach())
                sums["entropy"] += float(scores.entropy_N.sum())
                sums["correct"] += float(scores.correct_N.sum())
        self._idle(plan.passes - plan.passes_of(self._ranks.rank), gradient=True)
        every = self._ranks.gather(sums)
        total = {name: sum(of_rank[name] for of_rank in every) for name in sums}
        return {
            "loss": total["loss"],
            "grad_norm": self._optimizer_step(),
            "entropy": total["entropy"] / agent_tokens,
            "token_accuracy": total["correct"] / agent_tokens,
            "learning_rate": learning_rate,
            "tokens": float(sum(len(s.token_ids) for s in samples)),
            "trained_tokens": float(agent_tokens),
            "seconds": time.perf_counter() - start,
        }

    def save(self, folder: Path) -> None:
        """Write weights, optimizer, schedule, shuffle and step count into a new folder; every rank
        calls this.
        """
        save_sharded(folder / _SHARDS, self._scorer, self._optimizer)
        if self._ranks.rank == 0:
            state = {
                "schedule_step": self._schedule_step,
                "optimizer_steps_taken": self.optimizer_steps_taken,
                "random": self._random.getstate(),
            }
            (folder / _STATE).write_text(json.dumps(state))

    def load(self, folder: Path) -> None:
        """Continue where `save` was called, in any number of ranks; every rank calls this.

        Raises:
            ValueError: the folder is not whole, or of another model.
        """
        try:
            state = json.loads((folder / _STATE).read_text())
            version, internal, gauss = state["random"]
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder / _STATE}: missing or damaged ({error!r})") from error
        load_sharded(folder / _SHARDS, self._scorer, self._optimizer)
        self._random.setstate((version, tuple(internal), gauss))
        self._schedule_step = state["schedule_step"]
        self.optimizer_steps_taken = state["optimizer_steps_taken"]

    def full_weights(self) -> dict[str, Tensor]:
        """The model's whole weights on CPU in rank 0, nothing in the others; every rank calls this."""
        return full_state_dict(self._scorer.model)

    def fetch_weights(self) -> None:
        """The model is here."""

    def close(self) -> None:
        """Nothing is left open."""

    @property
    def _needs_old_pass(self) -> bool:
        """With a single optimizer step the policy in training is the old one, and the pass is
        saved.
        """
        return self.settings.old_logprobs == "learner" and self.settings.optimizer_steps > 1

    def _new_scorer(self, model: PreTrainedModel) -> Scorer:
        return Scorer(
            model.to(self.device),  # type: ignore[arg-type]
            temperature=self._temperature,
            autocast=self.dtype == "bfloat16",
            logit_chunk=self.settings.logit_chunk,
            activation_checkpointing=self.settings.activation_checkpointing,
        )

    def _batch(self, samples: Sequence[TrainingSample]) -> Batch:
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        batch = Batch.from_samples(
            samples, dtype=dtype, share_prefixes=self.settings.share_prefixes
        )
        return batch.to(self.device)

    def _idle(self, passes: int, *, gradient: bool) -> None:
        """Meet the other ranks in passes that they make and this one does not: they share out
        weights in each.
        """
        for _ in range(passes):
            with torch.set_grad_enabled(gradient):
                scores: Scores = self._scorer(self._batch([_IDLE]))
            if gradient:
                (scores.logprobs_N.sum() * 0.0).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _before(
        self,
        scorer: Scorer,
        samples: Sequence[TrainingSample],
        plans: Sequence[StepPlan],
        throughput: Throughput,
    ) -> Logprobs:
        """Log-probs of what this rank will train on, before the first optimizer step."""
        packs: list[list[MicroBatch]] = []
        for rank in range(self._ranks.size):
            own = [i for plan in plans for i in plan.samples_of(rank)]
            blocks = micro_batches(
                [samples[i] for i in own],
                self.settings.micro_batch_tokens,
                share_prefixes=self.settings.share_prefixes,
            )
            packs.append([[own[k] for k in one] for block in blocks for one in block])
        mine = packs[self._ranks.rank]
        found: Logprobs = {}
        for pack in mine:
            batch = self._batch([samples[i] for i in pack])
            scores: Scores = scorer(batch)
            throughput.count(batch, passes=1)
            parts = torch.split(scores.logprobs_N, [samples[i].agent_tokens for i in pack])
            found.update(zip(pack, parts, strict=True))
        if scorer is self._scorer:
            self._idle(max(map(len, packs)) - len(mine), gradient=False)
        return found

    def _reference_logprobs(
        self, samples: Sequence[TrainingSample], plans: Sequence[StepPlan], throughput: Throughput
    ) -> Logprobs:
        if self._reference is not None:
            return self._before(self._reference, samples, plans, throughput)
        if not self.settings.beta:
            return {}
        with adapter_off(self.model):
            return self._before(self._scorer, samples, plans, throughput)

    def _passes(
        self,
        samples: Sequence[TrainingSample],
        plan: StepPlan,
        counts: StepCounts,
        old: Logprobs,
        reference: Logprobs,
        records: list[TokenRecord],
        throughput: Throughput,
    ) -> list[_Pass]:
        """This rank's passes; an episode of several micro-batches is looked at as a whole first,
        without gradient.

        The loss of its tokens depends on all of them: its gradient with respect to each log-prob is
        worked out here, and the pass with a gradient then only carries it on into the weights.
        """
        passes: list[_Pass] = []
        looked = 0
        for block in plan.blocks[self._ranks.rank]:
            of_block = [
                _Pass(batch=self._batch([samples[i] for i in pack]), samples=pack) for pack in block
            ]
            if len(of_block) > 1:
                with torch.no_grad():
                    parts = [
                        self._scored(one, self._scorer(one.batch), old, reference)
                        for one in of_block
                    ]
                looked += len(of_block)
                for one in of_block:
                    throughput.count(one.batch, passes=1)
                whole = ScoredTokens.of_one_episode(parts)
                loss, share_N, record = self._rule.policy(whole, counts)
                (slope_N,) = torch.autograd.grad(loss, whole.new)
                records.append(record)
                sizes = [len(part.new) for part in parts]
                of_block = [
                    replace(
                        one,
                        slope_N=slope,
                        share_N=share,
                        known_loss=float(loss.detach()) / len(of_block),
                    )
                    for one, slope, share in zip(
                        of_block,
                        torch.split(slope_N, sizes),
                        torch.split(share_N, sizes),
                        strict=True,
                    )
                ]
            passes += of_block
        self._idle(plan.first_passes - looked, gradient=False)
        return passes

    def _learn_from(
        self,
        one: _Pass,
        counts: StepCounts,
        old: Logprobs,
        reference: Logprobs,
        records: list[TokenRecord],
    ) -> float:
        scores: Scores = self._scorer(one.batch, bool(self._rule.entropy_bonus))
        tokens = self._scored(one, scores, old, reference)
        if one.slope_N is None or one.share_N is None:
            loss, share_N, record = self._rule.policy(tokens, counts)
            records.append(record)
            value = float(loss.detach())
        else:
            # Only its gradient is that of the loss; the value is known.
            loss, share_N = (one.slope_N * tokens.new).sum(), one.share_N
            value = one.known_loss
        extras = self._rule.extras(tokens.new, tokens.entropy, tokens.reference, share_N)
        self._backward(loss + extras, one.batch)
        return value + float(extras.detach())

    def _scored(
        self, one: _Pass, scores: Scores, old: Logprobs, reference: Logprobs
    ) -> ScoredTokens:
        def known(logprobs: Logprobs) -> Tensor | None:
            return torch.cat([logprobs[i] for i in one.samples]) if logprobs else None

        old_N = (
            one.batch.behavior_logprobs_N if self.settings.old_logprobs == "sampler" else known(old)
        )
        return ScoredTokens.of(one.batch, scores, old=old_N, reference=known(reference))

    def _backward(self, loss: Tensor, batch: Batch) -> None:
        if not torch.isfinite(loss):
            self._optimizer.zero_grad()
            raise FloatingPointError(
                f"the loss of optimizer step {self.optimizer_steps_taken + 1} is {loss.item()}: lower learning_rate, "
                f"or look for log-probs that are not finite in the samples{self._keep(batch)}"
            )
        loss.backward()  # type: ignore[no-untyped-call]

    def _keep(self, batch: Batch) -> str:
        """Write the batch where a person finds it; where that is, for the message."""
        if self._evidence is None:
            return ""
        self._evidence.mkdir(parents=True, exist_ok=True)
        path = (
            self._evidence
            / f"optimizer-step-{self.optimizer_steps_taken + 1:06d}-rank-{self._ranks.rank}.pt"
        )
        branches = [(branch.begin, branch.end, branch.before) for branch in batch.tree.branches]
        torch.save({**batch.tensors, "branches": branches}, path)
        return f"; the batch is in {path}"

    def _optimizer_step(self) -> float:
        """Clip, check, step; returns the gradient's norm before clipping."""
        norm = self._ranks.clip_gradients(self._parameters, self.settings.max_grad_norm)
        if not math.isfinite(norm):
            self._optimizer.zero_grad()
            raise FloatingPointError(
                f"the gradient norm of optimizer step {self.optimizer_steps_taken + 1} is {norm}: lower learning_rate, "
                "or use dtype float32"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = group[FULL_RATE] * self._rate_factor
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule_step += 1
        self.optimizer_steps_taken += 1
        return norm


def _device(settings: LearnerSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: cuda, but torch sees no CUDA device; use device: auto or cpu, or install a CUDA torch"
        )
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)
