"""Policy objectives: pure functions of the agent's tokens.

Letters at the end of a tensor's name are its shape: N agent tokens, U units. A unit is the turn or
the episode that a probability ratio belongs to (`aggregation`).

One function, `policy_loss`, is the whole family of `agent_rl.objective.presets`. For each token let

    x   log pi_new - log pi_old
    c   x after the clip
    A   its advantage
    v   its share of the loss (`shares`)

The loss is the sum over tokens of -v A w, with the weight

    aggregation token           w = exp(c)
    aggregation turn, episode   w = exp(mean of c over the unit)       GMPO (2507.20673, eq. 4)
    aggregation sequence        w = exp(clip of the mean of x)         GSPO (2507.18071, eq. 5)

The mean is the logarithm of a power mean of ratios, `log_power_mean`. GMPO and GSPO have the
geometric one, power 0. With power 1, the aggregation `episode` is that of GRPO.

An example of GMPO with epsilon 0.4: an episode with A = 2 has two tokens with x = 0.1 and 0.9. The
second is cut to c = 0.4, so w = exp((0.1 + 0.4) / 2) = exp(0.25). Alone in its optimizer step, the
episode has v = 1/2 for each token, and the loss is -2 exp(0.25). The second token has no gradient
and still scales that of the first, which is -2 exp(0.25) / 2.

Why the clip is on one side: PPO takes the minimum of the plain and the clipped term. For A > 0 that
is a bound above only, for A < 0 a bound below only. A ratio beyond the other bound must keep its
gradient, as that leads back. For A < 0 that gradient has no limit: it grows with the ratio. So a
dual clip (1912.09729) cuts ratios above `clip_c` there. All cuts happen in log space and by
selection: the exponential never sees a value that was cut off, as infinity times 0 would be NaN.

Why all is flat: the N tokens are the agent's only. Observations and padding never get here, so no
value in their places can reach the loss or the gradient.

The shares are those of the whole optimizer step. So the losses and gradients of its pieces
(micro-batches, ranks) add up to those of the whole, if no unit is cut; `agent_rl.learner.plan` and
`update` take care of that.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agent_rl.objective.presets import Importance, Normalisation, Objective


@dataclass(frozen=True, kw_only=True)
class AgentTokens:
    """The agent's tokens of whole units, every field of shape [N]."""

    logp_new: Tensor
    """Log-probs under the policy in training, the only field with a gradient."""
    logp_old: Tensor
    """Log-probs under the policy before the update."""
    advantage: Tensor
    """The advantage of the token's turn or episode."""
    share: Tensor
    """The token's share of the loss (`shares`)."""
    turn: Tensor
    """The number of the token's turn, from 0."""
    episode: Tensor
    """The number of the token's episode, from 0."""
    log_weight: Tensor
    """The log importance weight (`importance_weights`); 0 corrects nothing."""

    def __post_init__(self) -> None:
        shape = self.logp_new.shape
        assert len(shape) == 1, shape
        for name in ("logp_old", "advantage", "share", "turn", "episode", "log_weight"):
            assert getattr(self, name).shape == shape, (name, getattr(self, name).shape, shape)


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """The tokens whose gradients the clip removed, exactly. Bool, [N]."""

    low: Tensor
    """Removed by the lower bound, which works at negative advantages only."""
    high: Tensor
    """Removed by the upper bound, which works at positive advantages only."""
    dual: Tensor
    """Removed by the dual clip's upper bound, which works at negative advantages only."""


@dataclass(frozen=True, kw_only=True)
class ImportanceWeights:
    """What corrects the sampler, for each token; every field [N], without gradient."""

    log_weight: Tensor
    """log(learner / sampler), after the cap; 0 corrects nothing."""
    kept: Tensor
    """Whether the mask leaves the token in the loss. Bool."""
    capped: Tensor
    """Whether the token is kept and the cap cut its weight. Bool."""


def policy_loss(objective: Objective, tokens: AgentTokens) -> tuple[Tensor, Clipped]:
    """Return the objective's loss over whole units, a scalar, and the clipped tokens."""
    x_N = tokens.logp_new - tokens.logp_old.detach()
    A_N, log_weight_N = tokens.advantage, tokens.log_weight.detach()
    # Advantage 0 means no loss and no gradient, exactly. Multiplying by 0 is not enough: a weight
    # may overflow to infinity, and 0 * infinity is NaN. So such tokens get x = 0 by selection.
    active_N = A_N != 0
    unit_N = tokens.turn if objective.aggregation == "turn" else tokens.episode
    bounds = log_bounds(objective)
    if objective.clip == "weight":
        # CISPO: the ratio is a constant, and the gradient comes from the log-prob. So every token
        # has one, also beyond the bounds, and none counts as clipped.
        log_ratio_N = torch.where(active_N, x_N.detach().clamp(*bounds) + log_weight_N, 0.0)
        term_N = log_ratio_N.exp() * torch.where(active_N, tokens.logp_new, 0.0)
        return -(tokens.share * A_N * term_N).sum(), _nothing_clipped(x_N)
    if objective.aggregation == "sequence":
        # GSPO takes the mean before the clip: an episode is clipped as a whole, or not at all.
        x_N = log_power_mean(torch.where(active_N, x_N, 0.0), unit_N, objective.power)
    most = math.log(objective.clip_c) if objective.clip_c else math.inf
    c_N, clipped = _clip(torch.where(active_N, x_N, 0.0), A_N, bounds, most=most)
    # The importance weight corrects the sampler, not the update: it is not clipped, and within a
    # unit it is averaged as the ratios are.
    c_N = c_N + torch.where(active_N, log_weight_N, 0.0)
    if objective.aggregation != "token":
        # GMPO takes the mean after the clip, so all n tokens of a unit have the same weight w. Each
        # of their n terms -v A w depends on each token's x by a derivative of 1/n: that adds up to
        # a gradient of -v A w per token that is not clipped. With another power the derivative is
        # the token's part of the sum of ratios^power. (In GSPO the mean above has made all x equal
        # already; this one averages their importance weights.)
        c_N = log_power_mean(c_N, unit_N, objective.power)
    return -(tokens.share * A_N * c_N.exp()).sum(), clipped


def log_bounds(objective: Objective) -> tuple[float, float]:
    """Return the least and the greatest log-ratio that the objective's clip leaves."""
    if objective.clip == "none":
        return -math.inf, math.inf
    if objective.clip == "log":
        return -objective.epsilon, objective.epsilon_high
    low = math.log1p(-objective.epsilon) if objective.epsilon < 1.0 else -math.inf
    return low, math.log1p(objective.epsilon_high)


def log_power_mean(x_N: Tensor, unit_N: Tensor, power: float) -> Tensor:
    """Return for every token the logarithm of its unit's mean ratio, [N].

    Over n ratios r = exp(x) of a unit, the power mean is (sum of r^power / n)^(1 / power). Power 1
    is the arithmetic mean, -1 the harmonic one; the limit at 0 is the geometric one. The larger the
    power, the more the largest ratios count. It is HolderPO's mean (arXiv 2605.12058).

    Args:
        x_N: log-ratios.
        unit_N: the number of each token's unit, from 0.
        power: finite.
    """
    if power == 0.0:
        return _unit_mean(x_N, unit_N)
    # With e the unit's largest x, or its smallest if the power is negative:
    #     e + log(mean of exp(power (x - e))) / power
    # No exponent is above 0, so nothing overflows. e may be a constant: the sum does not depend on
    # it. `expm1` and `log1p` keep the digits near power 0, which a schedule passes. They lose some
    # where the mean is close to 0, so all is computed in float64.
    exact_N = x_N.double()
    extreme_N = _unit_extreme(exact_N.detach(), unit_N, largest=power > 0.0)
    mean_N = _unit_mean((power * (exact_N - extreme_N)).expm1(), unit_N)
    return (extreme_N + mean_N.log1p() / power).to(x_N.dtype)


def shares(
    normalisation: Normalisation,
    unit_N: Tensor,
    *,
    units: int,
    tokens: int,
    episodes: int,
    length: int,
) -> Tensor:
    """Return each token's share v of the loss, [N], without gradient.

    Args:
        normalisation: see `agent_rl.objective.presets`.
        unit_N: the number of the token's episode, or of its turn if turns are aggregated, from 0;
            whole units.
        units: the units of the whole optimizer step that have agent tokens.
        tokens: the agent tokens of the whole optimizer step.
        episodes: the episodes of the whole optimizer step that have agent tokens.
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
    # Each unit counts the same, and within it each token: 1 / (tokens of the unit * units).
    counts_U = torch.bincount(unit_N)
    return 1.0 / (counts_U[unit_N].to(dtype) * units)


def importance_weights(
    importance: Importance, logp_old_N: Tensor, logp_sampler_N: Tensor, episode_N: Tensor
) -> ImportanceWeights:
    """Return the importance weights learner / sampler.

    The serving engine computes the log-probs of the same policy a little differently, and older
    weights may have sampled some tokens. Truncated importance sampling (TIS) corrects for both: per
    token, per sequence (the product over its tokens), or with the sequence's geometric mean.

    Args:
        importance: the level, the cap of weights, and the mask beyond which tokens are left out.
        logp_old_N: the learner's log-probs before the update.
        logp_sampler_N: the log-prob of each token under the weights that sampled it, as the serving
            engine gave it. The weights may differ from token to token.
        episode_N: the number of each token's episode, from 0.
    """
    d_N = (logp_old_N - logp_sampler_N).detach()
    if importance.level == "none":
        none_N = torch.zeros_like(d_N, dtype=torch.bool)
        return ImportanceWeights(log_weight=torch.zeros_like(d_N), kept=~none_N, capped=none_N)
    if importance.level == "sequence":
        d_N = _unit_sum(d_N, episode_N)
    elif importance.level == "geometric":
        d_N = _unit_mean(d_N, episode_N)
    # Comparisons with NaN are False, so NaN is kept: it must stop the run, not vanish silently.
    kept_N = ~(d_N.abs() > (math.log(importance.mask) if importance.mask else math.inf))
    most = math.log(importance.cap) if importance.cap else math.inf
    return ImportanceWeights(
        log_weight=d_N.clamp(max=most), kept=kept_N, capped=kept_N & (d_N > most)
    )


def off_policy_mask(
    bound: float, logp_new_N: Tensor, logp_sampler_N: Tensor, advantage_N: Tensor, unit_N: Tensor
) -> Tensor:
    """Return whether each token stays in the loss, bool, [N]: DeepSeek-V3.2 (arXiv 2512.02556).

    A token is left out if its advantage is below 0, and the policy in training has already moved
    away from its unit: if the unit's mean of log(sampler / new) is above the bound. A failure that
    the policy would hardly produce any more has little to teach, and a loud gradient.

    Args:
        bound: in nats per token, above 0.
        logp_new_N: log-probs under the policy in training.
        logp_sampler_N: log-probs under the weights that sampled each token.
        advantage_N: of the token's turn or episode.
        unit_N: the number of the token's turn or episode, from 0; whole units.
    """
    # Comparisons with NaN are False, so NaN is kept, as in `importance_weights`.
    distance_N = _unit_mean((logp_sampler_N - logp_new_N).detach(), unit_N)
    return ~((advantage_N < 0) & (distance_N > bound))


def kl_k3(logp_N: Tensor, logp_reference_N: Tensor) -> Tensor:
    """Return an estimate of each token's KL(policy || reference), [N].

    It is r - log r - 1 with r = reference / policy (Schulman, "Approximating KL divergence", 2020):
    unbiased for tokens that the policy sampled, and never negative. `expm1` keeps the digits if r
    is close to 1.
    """
    log_r_N = logp_reference_N - logp_N
    return log_r_N.expm1() - log_r_N


def _clip(
    x_N: Tensor, A_N: Tensor, bounds: tuple[float, float], *, most: float
) -> tuple[Tensor, Clipped]:
    """Return the log-ratios, each beyond a bound replaced by the bound, and the clipped tokens.

    `most` is the dual clip's bound.
    """
    low, high = bounds
    clipped = Clipped(
        low=(A_N < 0) & (x_N < low), high=(A_N > 0) & (x_N > high), dual=(A_N < 0) & (x_N > most)
    )
    c_N = torch.where(clipped.low, low, torch.where(clipped.high, high, x_N))
    return torch.where(clipped.dual, most, c_N), clipped


def _nothing_clipped(x_N: Tensor) -> Clipped:
    none_N = torch.zeros_like(x_N, dtype=torch.bool)
    return Clipped(low=none_N, high=none_N, dual=none_N)


def _unit_sum(values_N: Tensor, unit_N: Tensor) -> Tensor:
    """Return for every token the sum over its unit, [N]."""
    units = int(unit_N.max()) + 1 if unit_N.numel() else 0
    sums_U = values_N.new_zeros(units).index_add(0, unit_N, values_N)
    # Not `sums_U[unit_N]`, whose gradient is added up in threads, in any order.
    return sums_U.index_select(0, unit_N)


def _unit_mean(values_N: Tensor, unit_N: Tensor) -> Tensor:
    """Return for every token the mean over its unit, [N]."""
    return _unit_sum(values_N, unit_N) / _unit_sum(torch.ones_like(values_N), unit_N)


def _unit_extreme(values_N: Tensor, unit_N: Tensor, *, largest: bool) -> Tensor:
    """Return for every token the largest or the smallest value of its unit, [N]."""
    units = int(unit_N.max()) + 1 if unit_N.numel() else 0
    extreme_U = values_N.new_zeros(units).scatter_reduce(
        0, unit_N, values_N, "amax" if largest else "amin", include_self=False
    )
    return extreme_U.index_select(0, unit_N)
