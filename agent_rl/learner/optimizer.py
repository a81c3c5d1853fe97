"""The optimizer of a run: AdamW, or Muon for the layers' matrices, on a learning-rate schedule."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.muon import FastMuon
from agent_rl.learner.ranks import Ranks
from agent_rl.policy.experts import is_stack
from agent_rl.policy.loading import decoder_and_head

FULL_RATE = "full_rate"
"""The key of a parameter group for its learning rate at a schedule factor of 1."""


def learning_rate_factor(step: int, settings: LearnerSettings, total_steps: int) -> float:
    """Return the factor of the learning rate at an optimizer step.

    It rises linearly from 1/warmup_steps to 1 during the warm-up. Then it stays 1, or falls to 0 at
    `total_steps`, linearly or on a cosine.

    Args:
        step: the number of the optimizer step, from 0.
        settings: `warmup_steps` and `schedule`.
        total_steps: the optimizer steps of the whole run.
    """
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return 1.0
    done = min((step - settings.warmup_steps) / max(total_steps - settings.warmup_steps, 1), 1.0)
    return 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


class ScheduledOptimizer:
    """Takes optimizer steps: clips and checks the gradient, and moves along the schedule.

    Two counters live as long as the run. `schedule_step` also counts steps that were skipped
    because nothing had a gradient; `steps_taken` does not.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        parameters: list[nn.Parameter],
        settings: LearnerSettings,
        *,
        total_steps: int,
        ranks: Ranks,
    ) -> None:
        self.inner = make_optimizer(model, parameters, settings)
        self.schedule_step = 0
        self.steps_taken = 0
        self._parameters = parameters
        self._settings = settings
        self._total_steps = total_steps
        self._ranks = ranks

    @property
    def learning_rate(self) -> float:
        """AdamW's rate at the next optimizer step."""
        return self._settings.learning_rate * self._factor

    @property
    def run_done(self) -> float:
        """The part of the run before the next rollout step: 0 at the first, and 1 at the last one.

        It is counted in optimizer steps, as the learning rate's schedule is.
        """
        last = self._total_steps - self._settings.optimizer_steps
        return min(self.schedule_step / last, 1.0) if last > 0 else 0.0

    def step(self) -> float:
        """Clip the gradients, take a step and clear them.

        Returns:
            The norm of the gradient before clipping, over all ranks.

        Raises:
            FloatingPointError: the norm is not finite; the weights did not change.
        """
        norm = self._ranks.clip_gradients(self._parameters, self._settings.max_grad_norm)
        if not math.isfinite(norm):
            self.zero_grad()
            raise FloatingPointError(
                f"the gradient norm of optimizer step {self.steps_taken + 1} is {norm}: "
                "lower learning_rate, or use dtype float32"
            )
        for group in self.inner.param_groups:
            group["lr"] = group[FULL_RATE] * self._factor
        self.inner.step()
        self.zero_grad()
        self.schedule_step += 1
        self.steps_taken += 1
        return norm

    def skip(self) -> None:
        """Clear the gradients and move along the schedule, without a step."""
        self.zero_grad()
        self.schedule_step += 1

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self.inner.zero_grad()

    @property
    def _factor(self) -> float:
        return learning_rate_factor(self.schedule_step, self._settings, self._total_steps)


class MuonAndAdamW(Optimizer):
    """Both as one optimizer: the first parameter group is AdamW's, the second one Muon's.

    Muon (Jordan et al. 2024, as in torch) makes a matrix's update orthogonal. Its rate is scaled:
    the update's root mean square is then like that of AdamW (arXiv 2502.16982).
    """

    def __init__(
        self,
        others: Sequence[nn.Parameter],
        matrices: Sequence[nn.Parameter],
        settings: LearnerSettings,
    ) -> None:
        """Divide the parameters.

        Args:
            others: AdamW's.
            matrices: Muon's, or stacks of them, each whole in this process.
            settings: rates and weight decay.
        """
        assert settings.muon_learning_rate is not None
        decay = settings.weight_decay
        self._parts: tuple[Optimizer, Optimizer] = (
            AdamW(others, lr=settings.learning_rate, betas=settings.betas, weight_decay=decay),
            FastMuon(matrices, lr=settings.muon_learning_rate, weight_decay=decay),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Let each part step its own group."""
        assert closure is None
        # State and groups belong to this optimizer, as they are saved and loaded here. The parts
        # only borrow them, at every step: loading replaces the objects.
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
            part.step()


def make_optimizer(
    model: Any, parameters: Sequence[nn.Parameter], settings: LearnerSettings
) -> Optimizer:
    """Return AdamW, or Muon with AdamW if the settings have a `muon_learning_rate`.

    Each parameter group has its learning rate at `FULL_RATE`, too.

    Args:
        model: Muon trains the matrices of its decoder's layers, each expert's by itself.
            Embeddings, the head and routers are AdamW's, as their rows are separate tokens or
            experts.
        parameters: all to be trained.
        settings: rates, betas and weight decay.
    """
    optimizer: Optimizer
    if settings.muon_learning_rate is None:
        optimizer = AdamW(
            parameters,
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
    else:
        decoder, _ = decoder_and_head(model)
        matrices = {
            id(module.weight) for module in decoder.modules() if isinstance(module, nn.Linear)
        }
        matrices |= {id(weight) for weight in decoder.parameters() if is_stack(weight)}
        optimizer = MuonAndAdamW(
            [p for p in parameters if id(p) not in matrices],
            [p for p in parameters if id(p) in matrices],
            settings,
        )
    for group in optimizer.param_groups:
        group[FULL_RATE] = group["lr"]
    return optimizer
