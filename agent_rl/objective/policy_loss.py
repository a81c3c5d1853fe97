"""Policy objectives: pure functions of the agent's tokens.

One function, `policy_loss`, for the whole family of `agent_rl.objective.presets`. With x = log
pi_new - log pi_old of a token, c its clipped value, A its advantage and v its share of the loss
(`shares`), the loss is the sum over tokens of -v A w, where w is

    token                exp(c) turn, episode        exp(mean of c over the turn or episode)
    GMPO (arXiv 2507.20673, equation 4) sequence             exp(the clipped mean of x over the
    episode)   GSPO (arXiv 2507.18071, equation 5)

Clipping is on one side, which is PPO's two-sided clip seen through its minimum: above where the
advantage is positive, below where it is negative. It happens in log space and by selection, so the
exponential never sees what was cut off.

Everything is flat: N tokens, all of them the agent's, of whole units (turns, episodes).
Observations and padding never get here, so whatever stands at their places reaches neither the loss
nor the gradient. A unit with advantage 0 contributes exactly 0. The shares are those of the whole
optimizer step, so losses and gradients of any split of it into micro-batches or ranks add up to the
whole's, as long as a unit is not cut; `agent_rl.learner.learner` sees to that.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl.objective.presets import Importance, Normalisation, Objective


@dataclass(frozen=True, kw_only=True)
class AgentTokens:
    """The agent's tokens of whole units, every field of shape [N].

    `logp_new` is the only one that gets a gradient. `turn` and `episode` number what the token
    belongs to, from 0. `log_weight` is a log importance weight (`importance_weights`), 0 where
    nothing is corrected.
    """

    logp_new: Tensor
    logp_old: Tensor
    advantage: Tensor
    share: Tensor
    turn: Tensor
    episode: Tensor
    log_weight: Tensor

    def __post_init__(self) -> None:
        shape = self.logp_new.shape
        assert len(shape) == 1, shape
        for name in ("logp_old", "advantage", "share", "turn", "episode", "log_weight"):
            assert getattr(self, name).shape == shape, (name, getattr(self, name).shape, shape)


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """Which tokens' gradients clipping removed, exactly, per side. Bool, [N]."""

    low: Tensor
    high: Tensor


def policy_loss(objective: Objective, tokens: AgentTokens) -> tuple[Tensor, Clipped]:
    """The objective's loss over whole units, a scalar, and what was clipped."""
    x_N = tokens.logp_new - tokens.logp_old.detach()
    A_N, log_weight_N = tokens.advantage, tokens.log_weight.detach()
    active_N = A_N != 0
    unit_N = tokens.turn if objective.aggregation == "turn" else tokens.episode
    bounds = log_bounds(objective)
    if objective.clip == "weight":
        log_ratio_N = torch.where(active_N, x_N.detach().clamp(*bounds) + log_weight_N, 0.0)
        term_N = log_ratio_N.exp() * torch.where(active_N, tokens.logp_new, 0.0)
        return -(tokens.share * A_N * term_N).sum(), _nothing_clipped(x_N)
    if objective.aggregation == "sequence":
        x_N = _unit_mean(torch.where(active_N, x_N, 0.0), unit_N)
    c_N, clipped = _clip(torch.where(active_N, x_N, 0.0), A_N, bounds)
    c_N = c_N + torch.where(active_N, log_weight_N, 0.0)
    if objective.aggregation != "token":
        c_N = _unit_mean(c_N, unit_N)
    return -(tokens.share * A_N * c_N.exp()).sum(), clipped


def log_bounds(objective: Objective) -> tuple[float, float]:
    """The least and the greatest log-ratio that the objective's clip leaves."""
    if objective.clip == "none":
        return -math.inf, math.inf
    if objective.clip == "log":
        return -objective.epsilon, objective.epsilon_high
    low = math.log1p(-objective.epsilon) if objective.epsilon < 1.0 else -math.inf
    return low, math.log1p(objective.epsilon_high)


def shares(
    normalisation: Normalisation,
    unit_N: Tensor,
    *,
    units: int,
    tokens: int,
    episodes: int,
    length: int,
) -> Tensor:
    """Each token's share v of the loss, [N], without gradient.

    Args:
        normalisation: see `agent_rl.objective.presets`.
        unit_N: the number of the token's episode (of its turn, where turns are aggregated), from 0;
        whole units. units, tokens, episodes: how many the whole optimizer step has, counting only
        what has agent tokens.
        length: `normalisation_length`.
    """
    assert min(units, tokens, episodes) > 0, (units, tokens, episodes)
    dtype = torch.float64
    if normalisation == "token":
        return torch.full(unit_N.shape, 1.0 / tokens, dtype=dtype, device=unit_N.device)
    if normalisation == "constant":
        return torch.full(
            unit_N.shape, 1.0 / (length * episodes), dtype=dtype, device=unit_N.device
        )
    counts_U = torch.bincount(unit_N)
    return 1.0 / (counts_U[unit_N].to(dtype) * units)


def importance_weights(
    importance: Importance, logp_old_N: Tensor, logp_sampler_N: Tensor, episode_N: Tensor
) -> tuple[Tensor, Tensor]:
    """Log importance weights of the learner's old policy against the sampler, and which tokens are
    kept; both [N].

    They correct for log-probs that the serving engine computes a little differently: truncated
    importance sampling (TIS), per token, per sequence (the product over its tokens) or for the
    sequence's geometric mean. A token or sequence with a weight beyond `mask`, or below its
    inverse, is not kept. Without gradient.
    """
    d_N = (logp_old_N - logp_sampler_N).detach()
    if importance.level == "none":
        return torch.zeros_like(d_N), torch.ones_like(d_N, dtype=torch.bool)
    if importance.level == "sequence":
        d_N = _unit_sum(d_N, episode_N)
    elif importance.level == "geometric":
        d_N = _unit_mean(d_N, episode_N)
    # What is not a number is kept: it must stop the run, not leave it in silence.
    beyond_N = d_N.abs() > (math.log(importance.mask) if importance.mask else math.inf)
    return d_N.clamp(max=math.log(importance.cap) if importance.cap else math.inf), ~beyond_N


def kl_k3(logp_N: Tensor, logp_reference_N: Tensor) -> Tensor:
    """An estimate of each token's KL(policy || reference), [N]: r - log r - 1 with r = reference /
    policy.

    Unbiased for tokens that the policy sampled, and never negative (Schulman, "Approximating KL
    divergence", 2020).
    """
    log_r_N = logp_reference_N - logp_N
    return log_r_N.expm1() - log_r_N


def _clip(x_N: Tensor, A_N: Tensor, bounds: tuple[float, float]) -> tuple[Tensor, Clipped]:
    low, high = bounds
    high_N = (A_N > 0) & (x_N > high)
    low_N = (A_N < 0) & (x_N < low)
    return torch.where(high_N, high, torch.where(low_N, low, x_N)), Clipped(low=low_N, high=high_N)


def _nothing_clipped(x_N: Tensor) -> Clipped:
    none_N = torch.zeros_like(x_N, dtype=torch.bool)
    return Clipped(low=none_N, high=none_N)


def _unit_sum(values_N: Tensor, unit_N: Tensor) -> Tensor:
    """The sum over each token's unit, at every token of it."""
    units = int(unit_N.max()) + 1 if unit_N.numel() else 0
    return values_N.new_zeros(units).index_add(0, unit_N, values_N)[unit_N]


def _unit_mean(values_N: Tensor, unit_N: Tensor) -> Tensor:
    """The mean over each token's unit, at every token of it."""
    return _unit_sum(values_N, unit_N) / _unit_sum(torch.ones_like(values_N), unit_N)
