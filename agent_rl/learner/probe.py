"""A probe: the gradient of another objective on the samples of the same optimizer step.

If both gradients point the same way, a comparison of the two objectives can show nothing. A probe
trains nothing, so it never ends a run: a gradient that is not finite has no comparison.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agent_rl.display import say
from agent_rl.learner.loss import LossRule
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.passes import Passes


@dataclass(kw_only=True)
class Probe:
    """Compares gradients every few optimizer steps."""

    name: str
    """The other objective's name."""
    rule: LossRule
    """The other objective's loss."""
    every: int
    """The optimizer steps from one probe to the next."""
    passes: Passes
    """The trained model."""
    _told: bool = field(default=False, init=False)
    """Whether it was said that a gradient is not finite."""

    def is_due(self) -> bool:
        """Whether the next optimizer step is one with a probe."""
        return (self.passes.optimizer.steps_taken + 1) % self.every == 0

    def take_gradient(self) -> list[Tensor]:
        """Return this rank's part of the present gradient, and clear it."""
        taken = [part.clone() for part in self._gradient()]
        self.passes.optimizer.zero_grad()
        return taken

    def compare(self, probed: list[Tensor]) -> Metrics:
        """Compare a gradient that was taken with the present one.

        Returns:
            `probe_cosine`, the cosine of the angle between the two, and `probe_norm_ratio`, the
            norm of the one that was taken over that of the present one. Nothing if one of them
            is 0. If the one that was taken is not finite, `probe_not_finite` is 1 in their place,
            and the first time it is said.
        """
        sums = torch.zeros(3, dtype=torch.float64)
        for theirs, ours in zip(probed, self._gradient(), strict=True):
            products = (theirs * ours).sum(), theirs.square().sum(), ours.square().sum()
            sums += torch.stack(products).double().cpu()
        # Each rank has a part of every gradient.
        whole = sum(part["sums"] for part in self.passes.ranks.gather({"sums": sums}))
        assert isinstance(whole, Tensor)
        product, theirs_squared, ours_squared = whole.tolist()
        if not math.isfinite(theirs_squared):
            self._say_not_finite()
            return {"probe_not_finite": 1.0}
        if not theirs_squared or not ours_squared:
            return {}
        return {
            "probe_cosine": product / (theirs_squared * ours_squared) ** 0.5,
            "probe_norm_ratio": (theirs_squared / ours_squared) ** 0.5,
        }

    def _say_not_finite(self) -> None:
        if not self._told:
            self._told = True
            say(
                f"learner.probe: the gradient of {self.name} is not finite at optimizer step "
                f"{self.passes.optimizer.steps_taken + 1}, so there is no cosine; training goes "
                "on, and later cases are counted in learner/probe_not_finite only"
            )

    def _gradient(self) -> list[Tensor]:
        parts = []
        for parameter in self.passes.scorer.parameters():
            if parameter.requires_grad:
                gradient = parameter.grad
                if gradient is None:
                    gradient = torch.zeros_like(parameter)
                # With several ranks, a gradient is divided among them.
                parts.append(gradient.to_local() if hasattr(gradient, "to_local") else gradient)
        return parts
