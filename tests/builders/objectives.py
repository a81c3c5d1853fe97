"""An objective at log-ratios that a test chooses, in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from agent_rl.objective.policy_loss import AgentTokens, Clipped, policy_loss, shares
from agent_rl.objective.presets import Objective

LENGTH = 10
"""The divisor of objectives with a constant one."""


def logs(*ratios: float) -> list[float]:
    return [math.log(ratio) for ratio in ratios]


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A loss and, each [N], the gradient with respect to the new log-probs and what was clipped."""

    loss: float
    grad: Tensor
    clipped: Clipped


def run(
    objective: Objective,
    x: Sequence[Sequence[float]],
    advantage: Sequence[float],
    *,
    log_weight: Sequence[float] | None = None,
    turns: Sequence[Sequence[int]] | None = None,
) -> Outcome:
    """The objective at log-ratios `x`, a row for each episode; old log-probs are -1.

    `turns` numbers the turns of the whole batch; without it each episode is one turn. What is
    constant is 10 tokens.
    """
    sizes = torch.tensor([len(row) for row in x])
    episode = torch.arange(len(x)).repeat_interleave(sizes)
    turn = episode if turns is None else torch.tensor([number for row in turns for number in row])
    unit = turn if objective.aggregation == "turn" else episode
    logp_new = tensor([value - 1.0 for row in x for value in row]).requires_grad_()
    share = shares(
        objective.normalisation,
        unit,
        units=len(set(unit.tolist())),
        tokens=len(unit),
        episodes=len(x),
        length=LENGTH,
    )
    loss, clipped = policy_loss(
        objective,
        AgentTokens(
            logp_new=logp_new,
            logp_old=torch.full_like(logp_new, -1.0),
            advantage=tensor(advantage)[episode],
            share=share,
            turn=turn,
            episode=episode,
            log_weight=torch.zeros_like(share) if log_weight is None else tensor(log_weight),
        ),
    )
    (grad,) = torch.autograd.grad(loss, logp_new)
    return Outcome(loss=loss.item(), grad=grad, clipped=clipped)
