"""Muon for the matrices of a decoder's layers, AdamW for everything else."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from agent_rl.config.learner import LearnerSettings
from agent_rl.policy.loading import decoder_and_head

FULL_RATE = "full_rate"
"""The key of a parameter group for its learning rate where the schedule's factor is 1."""


class MuonAndAdamW(Optimizer):
    """Both as one optimizer: the first group is AdamW's, the second one Muon's.

    Muon (Jordan et al. 2024, as in torch) makes a matrix's update orthogonal; its rate is scaled so
    that the update's root mean square is like AdamW's (arXiv 2502.16982).
    """

    def __init__(
        self,
        others: Sequence[nn.Parameter],
        matrices: Sequence[nn.Parameter],
        settings: LearnerSettings,
    ) -> None:
        assert settings.muon_learning_rate is not None
        decay = settings.weight_decay
        self._parts: tuple[Optimizer, Optimizer] = (
            AdamW(others, lr=settings.learning_rate, betas=settings.betas, weight_decay=decay),
            Muon(
                matrices,
                lr=settings.muon_learning_rate,
                weight_decay=decay,
                adjust_lr_fn="match_rms_adamw",
            ),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Each part steps its own group; state and groups are this optimizer's, which is what is
        saved and loaded.
        """
        assert closure is None
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state
            part.step()


def make_optimizer(
    model: Any, parameters: Sequence[nn.Parameter], settings: LearnerSettings
) -> Optimizer:
    """The optimizer that the settings ask for; each group has its rate at `FULL_RATE`."""
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
        linear = {
            id(module.weight) for module in decoder.modules() if isinstance(module, nn.Linear)
        }
        optimizer = MuonAndAdamW(
            [p for p in parameters if id(p) not in linear],
            [p for p in parameters if id(p) in linear],
            settings,
        )
    for group in optimizer.param_groups:
        group[FULL_RATE] = group["lr"]
    return optimizer
