"""The learner: samples in, updated weights and metrics out. It knows no environment, Ray or serving engine."""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from transformers import PreTrainedModel

from agent_rl.batch import Batch, TrainingSample, micro_batches, minibatches
from agent_rl.objectives import TokenSums, gmpo, grpo, truncated_log_weights
from agent_rl.scoring import Scores, score
from agent_rl.settings import LearnerSettings

Metrics = dict[str, float]


@dataclass(kw_only=True)
class _Totals:
    """What the optimizer steps of one call add up to."""

    sums: dict[str, float] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)

    def add(self, **values: float | Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def top(self, **values: float | Tensor) -> None:
        for name, value in values.items():
            self.maxima[name] = max(self.maxima.get(name, 0.0), float(value))

    def mean(self, name: str, count: str) -> float:
        """0 where nothing was counted, so that a metric's key is always there."""
        return self.sums.get(name, 0.0) / max(self.sums.get(count, 0.0), 1.0)


class Learner:
    """AdamW on a policy objective or on cross-entropy, over whole optimizer steps of any number of micro-batches.

    Args:
        model: a causal language model; moved to the device and changed in place.
        settings: `LearnerSettings`.
        total_steps: the optimizer steps of the whole run, where the linear and cosine schedules reach 0.
        temperature: the sampler's; log-probs are those of the distribution that was sampled from.
        seed: of the shuffle of samples into optimizer steps.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        *,
        total_steps: int,
        temperature: float = 1.0,
        seed: int = 0,
    ) -> None:
        assert temperature > 0.0, temperature
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = _device(settings)
        # eval(): dropout would make the old log-probs and the new ones those of different policies.
        self.model = model.to(self.device).eval()  # type: ignore[arg-type]
        self.settings = settings
        self.temperature = temperature
        self.optimizer_steps_taken = 0
        self._random = random.Random(seed)
        self._optimizer = AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self._total_steps = total_steps
        self._schedule_step = 0

    @property
    def learning_rate(self) -> float:
        """Of the next optimizer step."""
        return self.settings.learning_rate * learning_rate_factor(self._schedule_step, self.settings, self._total_steps)

    @torch.no_grad()
    def logprobs(self, batch: Batch) -> Tensor:
        """Log-probs of the agent's tokens, [B, T] on the learner's device, 0 outside the mask."""
        return self._score(batch.to(self.device)).logprobs_BT

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """Train on one rollout step's samples: `optimizer_steps` steps, every sample used once.

        A sample with advantage 0 has no gradient: it counts in the objective's mean over samples, and its forward pass
        is saved. An optimizer step without any other sample is not taken, but the schedule moves on. `loss`,
        `grad_norm` are means over the steps taken; `ratio_*`, `log_ratio_*`, `entropy`, `clip_fraction_*` are over
        trained tokens; `mismatch_abs_*` is |learner's old - sampler's| log-prob in nats (0 with the sampler's own).

        Raises:
            FloatingPointError: a loss or gradient is not finite; the weights are as the last good step left them.
        """
        assert samples, "an update needs at least one sample"
        start = time.perf_counter()
        totals = _Totals()
        learning_rate = self.learning_rate
        old = self._old_logprobs(samples)
        for indices in minibatches(len(samples), self.settings.optimizer_steps, self._random):
            self._policy_step([samples[i] for i in indices], [old[i] for i in indices], totals)
        return {
            "loss": totals.mean("loss", "steps"),
            "grad_norm": totals.mean("grad_norm", "steps"),
            "clip_fraction_low": totals.mean("clipped_low", "tokens"),
            "clip_fraction_high": totals.mean("clipped_high", "tokens"),
            "ratio_mean": totals.mean("ratio", "tokens"),
            "log_ratio_rms": math.sqrt(totals.mean("log_ratio_square", "tokens")),
            "log_ratio_abs_max": totals.maxima.get("log_ratio_abs", 0.0),
            "entropy": totals.mean("entropy", "tokens"),
            "mismatch_abs_mean": totals.mean("mismatch_abs", "tokens"),
            "mismatch_abs_max": totals.maxima.get("mismatch_abs", 0.0),
            "learning_rate": learning_rate,
            "optimizer_steps": totals.sums.get("steps", 0.0),
            "tokens": float(sum(len(s.token_ids) for s in samples)),
            "trained_tokens": totals.sums.get("tokens", 0.0),
            "seconds": time.perf_counter() - start,
        }

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """One optimizer step of cross-entropy, mean over all agent tokens of `samples`; advantages are not read.

        Raises:
            FloatingPointError: as `update`.
        """
        start = time.perf_counter()
        agent_tokens = sum(s.agent_tokens for s in samples)
        assert agent_tokens, "a supervised step needs at least one agent token"
        totals = _Totals()
        learning_rate = self.learning_rate
        for chunk in micro_batches(samples, self.settings.micro_batch_tokens):
            batch = self._batch([samples[i] for i in chunk])
            scores = self._score(batch)
            loss = -scores.logprobs_BT.sum() / agent_tokens
            self._backward(loss)
            totals.add(loss=loss.detach(), entropy=scores.entropy_sum, correct=scores.correct_sum)
        grad_norm = self._optimizer_step()
        return {
            "loss": totals.sums["loss"],
            "grad_norm": grad_norm,
            "entropy": totals.sums["entropy"] / agent_tokens,
            "token_accuracy": totals.sums["correct"] / agent_tokens,
            "learning_rate": learning_rate,
            "tokens": float(sum(len(s.token_ids) for s in samples)),
            "trained_tokens": float(agent_tokens),
            "seconds": time.perf_counter() - start,
        }

    def state_dict(self) -> dict[str, Any]:
        """Optimizer, schedule, shuffle and step count; the weights are the model's own business."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule_step": self._schedule_step,
            "random": self._random.getstate(),
            "optimizer_steps_taken": self.optimizer_steps_taken,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule_step = state["schedule_step"]
        self._random.setstate(state["random"])
        self.optimizer_steps_taken = state["optimizer_steps_taken"]

    def _batch(self, samples: Sequence[TrainingSample]) -> Batch:
        dtype = torch.promote_types(self.model.dtype, torch.float32)
        return Batch.from_samples(samples, dtype=dtype).to(self.device)

    def _score(self, batch: Batch) -> Scores:
        return score(self.model, batch, temperature=self.temperature, autocast=self.settings.dtype == "bfloat16")

    @torch.no_grad()
    def _old_logprobs(self, samples: Sequence[TrainingSample]) -> list[Tensor | None]:
        """Each sample's agent tokens' log-probs before the first optimizer step; None where no pass is needed.

        With a single optimizer step the policy in training is the old one, and the pass is saved.
        """
        old: list[Tensor | None] = [None] * len(samples)
        if self.settings.old_logprobs == "sampler" or self.settings.optimizer_steps == 1:
            return old
        trained = [i for i, sample in enumerate(samples) if sample.advantage != 0.0]
        for chunk in micro_batches([samples[i] for i in trained], self.settings.micro_batch_tokens):
            batch = self._batch([samples[trained[k]] for k in chunk])
            logprobs_BT = self._score(batch).logprobs_BT
            for row, k in enumerate(chunk):
                old[trained[k]] = logprobs_BT[row][batch.action_mask_BT[row]]
        return old

    def _policy_step(self, samples: list[TrainingSample], old: list[Tensor | None], totals: _Totals) -> None:
        per_turn = self.settings.scope == "turn"
        divisor = sum(s.turns if per_turn else min(s.turns, 1) for s in samples)
        trained = [i for i, sample in enumerate(samples) if sample.advantage != 0.0 and sample.turns]
        if not trained:
            self._schedule_step += 1
            return
        for chunk in micro_batches([samples[i] for i in trained], self.settings.micro_batch_tokens):
            rows = [trained[k] for k in chunk]
            batch = self._batch([samples[i] for i in rows])
            scores = self._score(batch)
            logp_old_BT = self._old_of(batch, [old[i] for i in rows], scores.logprobs_BT)
            loss, sums = self._objective(batch, scores.logprobs_BT, logp_old_BT, divisor)
            self._backward(loss)
            _tally(totals, loss, sums, scores, logp_old_BT - batch.behavior_logprobs_BT)
        totals.add(grad_norm=self._optimizer_step(), steps=1)

    def _old_of(self, batch: Batch, old: list[Tensor | None], logp_new_BT: Tensor) -> Tensor:
        if self.settings.old_logprobs == "sampler":
            return batch.behavior_logprobs_BT
        rows = [row for row in old if row is not None]
        if not rows:
            return logp_new_BT.detach()
        return torch.zeros_like(batch.behavior_logprobs_BT).masked_scatter(batch.action_mask_BT, torch.cat(rows))

    def _objective(
        self, batch: Batch, logp_new_BT: Tensor, logp_old_BT: Tensor, divisor: float
    ) -> tuple[Tensor, TokenSums]:
        eps_low, eps_high = self.settings.clip_range
        cap = self.settings.effective_tis_cap
        log_weight_BT = truncated_log_weights(logp_old_BT, batch.behavior_logprobs_BT, cap) if cap else None
        inputs = (logp_new_BT, logp_old_BT, batch.action_mask_BT, batch.advantage_B)
        if self.settings.objective == "grpo":
            return grpo(*inputs, divisor=divisor, eps_low=eps_low, eps_high=eps_high, log_weight_BT=log_weight_BT)
        return gmpo(
            *inputs,
            divisor=divisor,
            eps_low=eps_low,
            eps_high=eps_high,
            turn_ids_BT=batch.turn_ids_BT if self.settings.scope == "turn" else None,
            log_weight_BT=log_weight_BT,
        )

    def _backward(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            self._optimizer.zero_grad()
            raise FloatingPointError(
                f"the loss of optimizer step {self.optimizer_steps_taken + 1} is {loss.item()}: lower learning_rate, "
                "or look for log-probs that are not finite in the samples"
            )
        loss.backward()  # type: ignore[no-untyped-call]

    def _optimizer_step(self) -> float:
        """Clip, check, step; returns the gradient's norm before clipping."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm))
        if not math.isfinite(norm):
            self._optimizer.zero_grad()
            raise FloatingPointError(
                f"the gradient norm of optimizer step {self.optimizer_steps_taken + 1} is {norm}: lower learning_rate, "
                "or use dtype float32"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._schedule_step += 1
        self.optimizer_steps_taken += 1
        return norm


def learning_rate_factor(step: int, settings: LearnerSettings, total_steps: int) -> float:
    """What the learning rate of optimizer step `step` (from 0) is multiplied by.

    Linear from 1/warmup_steps to 1 over the warm-up; then 1, or down to 0 at `total_steps`, linearly or by a cosine.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    done = min((step - settings.warmup_steps) / max(total_steps - settings.warmup_steps, 1), 1.0)
    return 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _tally(totals: _Totals, loss: Tensor, sums: TokenSums, scores: Scores, mismatch_BT: Tensor) -> None:
    mismatch_BT = mismatch_BT.abs()
    totals.add(
        loss=loss.detach(),
        tokens=sums.token_count,
        clipped_low=sums.clipped_low_sum,
        clipped_high=sums.clipped_high_sum,
        ratio=sums.ratio_sum,
        log_ratio_square=sums.log_ratio_square_sum,
        entropy=scores.entropy_sum,
        mismatch_abs=mismatch_BT.sum(),
    )
    totals.top(log_ratio_abs=sums.log_ratio_abs_max, mismatch_abs=mismatch_BT.max())


def _device(settings: LearnerSettings) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: cuda, but torch sees no CUDA device; use device: auto or cpu, or install a CUDA torch"
        )
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)
