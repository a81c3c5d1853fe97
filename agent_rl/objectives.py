"""Policy objectives: pure functions of log-probs, masks and advantages.

Both objectives clip the log-ratio x = log pi_new - log pi_old of each agent token on one side, which is PPO's
two-sided clip seen through its minimum: above where the advantage is positive, below where it is negative. They differ
in one thing. With the unit's mean over its n agent tokens,

    GMPO   w = exp(mean(c))     geometric mean of the clipped ratios
    GRPO   w = mean(exp(c))     arithmetic mean

and the loss is the sum of -A w over the units, divided by `divisor`: the number of units in the whole optimizer step.
The caller gives it, so the losses (and gradients) of any split into micro-batches or ranks add up to the whole batch's.

Shapes: B rows, T tokens, U units in a row (1, or the row's turns). A position outside the mask may hold anything,
infinities and NaN included: it reaches neither the loss nor the gradient. A row without agent tokens, or with
advantage 0, contributes exactly 0.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """Sums over the agent tokens of one call, scalars. `merge` over micro-batches, then divide by `token_count`.

    `clipped_low_sum` and `clipped_high_sum` count exactly the tokens whose gradient clipping removed, per side.
    `log_ratio_abs_max` is a maximum.
    """

    token_count: Tensor
    clipped_low_sum: Tensor
    clipped_high_sum: Tensor
    ratio_sum: Tensor
    log_ratio_square_sum: Tensor
    log_ratio_abs_max: Tensor

    def merge(self, other: Self) -> Self:
        """The sums over both."""
        return type(self)(
            token_count=self.token_count + other.token_count,
            clipped_low_sum=self.clipped_low_sum + other.clipped_low_sum,
            clipped_high_sum=self.clipped_high_sum + other.clipped_high_sum,
            ratio_sum=self.ratio_sum + other.ratio_sum,
            log_ratio_square_sum=self.log_ratio_square_sum + other.log_ratio_square_sum,
            log_ratio_abs_max=torch.maximum(self.log_ratio_abs_max, other.log_ratio_abs_max),
        )


def gmpo(
    logp_new_BT: Tensor,
    logp_old_BT: Tensor,
    mask_BT: Tensor,
    advantage_B: Tensor,
    *,
    divisor: float,
    eps_low: float = 0.4,
    eps_high: float = 0.4,
    turn_ids_BT: Tensor | None = None,
    log_weight_BT: Tensor | None = None,
) -> tuple[Tensor, TokenSums]:
    """Geometric-Mean Policy Optimization (arXiv 2507.20673, equation 4): loss and token sums.

    Args:
        logp_new_BT: log-probs under the policy in training, the only input that gets a gradient.
        logp_old_BT: log-probs under the policy at the beginning of the rollout step's updates.
        mask_BT: bool, True for agent tokens.
        advantage_B: one per row.
        divisor: units with agent tokens in the whole optimizer step: rows, or turns where `turn_ids_BT` is given.
        eps_low, eps_high: log-ratios are clipped to -eps_low (A < 0) and +eps_high (A > 0).
        turn_ids_BT: a turn number (from 0) for each agent token: one geometric mean per turn instead of per row.
        log_weight_BT: per-token log importance weights (`truncated_log_weights`), averaged inside the geometric mean.
    """
    x_BT = _log_ratio(logp_new_BT, logp_old_BT, mask_BT, advantage_B, divisor)
    c_BT, sums = _clip(x_BT, mask_BT, advantage_B, log_low=-eps_low, log_high=eps_high)
    if log_weight_BT is not None:
        c_BT = c_BT + torch.where(mask_BT, log_weight_BT, 0.0).detach()
    mean_BU, used_BU = _unit_mean(c_BT, mask_BT & (advantage_B != 0)[:, None], turn_ids_BT)
    weight_BU = torch.where(used_BU, mean_BU.exp(), 0.0)
    return -(advantage_B[:, None] * weight_BU).sum() / divisor, sums


def grpo(
    logp_new_BT: Tensor,
    logp_old_BT: Tensor,
    mask_BT: Tensor,
    advantage_B: Tensor,
    *,
    divisor: float,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    log_weight_BT: Tensor | None = None,
) -> tuple[Tensor, TokenSums]:
    """PPO's clipped token objective, mean over a row's tokens, then over rows (arXiv 2402.03300, equation 3, no KL).

    Arguments as of `gmpo`, but ratios are clipped to 1 - eps_low and 1 + eps_high, and a token's log weight scales
    that token's term.
    """
    x_BT = _log_ratio(logp_new_BT, logp_old_BT, mask_BT, advantage_B, divisor)
    c_BT, sums = _clip(x_BT, mask_BT, advantage_B, log_low=math.log1p(-eps_low), log_high=math.log1p(eps_high))
    if log_weight_BT is not None:
        c_BT = c_BT + torch.where(mask_BT, log_weight_BT, 0.0).detach()
    active_BT = mask_BT & (advantage_B != 0)[:, None]
    ratio_BT = torch.where(active_BT, c_BT, 0.0).exp()
    mean_BU, used_BU = _unit_mean(ratio_BT, active_BT, None)
    weight_BU = torch.where(used_BU, mean_BU, 0.0)
    return -(advantage_B[:, None] * weight_BU).sum() / divisor, sums


def truncated_log_weights(logp_old_BT: Tensor, logp_sampler_BT: Tensor, cap: float) -> Tensor:
    """Log importance weights of the learner's old policy against the sampler, at most log(cap), without gradient.

    Corrects for log-probs that the serving engine computes a little differently (truncated importance sampling, TIS).
    """
    assert cap > 0.0, cap
    return (logp_old_BT - logp_sampler_BT).detach().clamp(max=math.log(cap))


def _log_ratio(
    logp_new_BT: Tensor, logp_old_BT: Tensor, mask_BT: Tensor, advantage_B: Tensor, divisor: float
) -> Tensor:
    assert logp_new_BT.ndim == 2, logp_new_BT.shape
    assert logp_new_BT.shape == logp_old_BT.shape == mask_BT.shape, (logp_new_BT.shape, logp_old_BT.shape)
    assert advantage_B.shape == logp_new_BT.shape[:1], (advantage_B.shape, logp_new_BT.shape)
    assert mask_BT.dtype == torch.bool, mask_BT.dtype
    assert divisor > 0, divisor
    return torch.where(mask_BT, logp_new_BT - logp_old_BT.detach(), 0.0)


def _clip(
    x_BT: Tensor, mask_BT: Tensor, advantage_B: Tensor, *, log_low: float, log_high: float
) -> tuple[Tensor, TokenSums]:
    # In log space and by selection: the exponential never sees what was cut off, so no 0 * inf in the backward pass.
    high_BT = (advantage_B > 0)[:, None] & (x_BT > log_high) & mask_BT
    low_BT = (advantage_B < 0)[:, None] & (x_BT < log_low) & mask_BT
    c_BT = torch.where(high_BT, log_high, torch.where(low_BT, log_low, x_BT))
    x_BT = x_BT.detach()
    sums = TokenSums(
        token_count=mask_BT.sum(),
        clipped_low_sum=low_BT.sum(),
        clipped_high_sum=high_BT.sum(),
        ratio_sum=torch.where(mask_BT, x_BT.exp(), 0.0).sum(),
        log_ratio_square_sum=x_BT.square().sum(),
        log_ratio_abs_max=x_BT.abs().max() if x_BT.numel() else x_BT.new_zeros(()),
    )
    return c_BT, sums


def _unit_mean(values_BT: Tensor, mask_BT: Tensor, turn_ids_BT: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean over each unit's masked tokens, and whether the unit has any; both [B, U]."""
    values_BT = torch.where(mask_BT, values_BT, 0.0)
    counts_BT = mask_BT.to(values_BT.dtype)
    if turn_ids_BT is None:
        sum_BU, count_BU = values_BT.sum(1, keepdim=True), counts_BT.sum(1, keepdim=True)
    else:
        assert turn_ids_BT.shape == mask_BT.shape, (turn_ids_BT.shape, mask_BT.shape)
        ids_BT = torch.where(mask_BT, turn_ids_BT, 0)
        units = int(ids_BT.max()) + 1 if ids_BT.numel() else 1
        empty_BU = values_BT.new_zeros(len(values_BT), units)
        sum_BU, count_BU = empty_BU.scatter_add(1, ids_BT, values_BT), empty_BU.scatter_add(1, ids_BT, counts_BT)
    return sum_BU / count_BU.clamp(min=1.0), count_BU > 0
