"""The metrics of an update, from the loss, the gradient norm and a record of each trained token."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from agent_rl.objective.policy_loss import kl_k3

Metrics = dict[str, float]
"""Values by their names."""

TURN_BUCKETS = (10, 20, 30)
"""Upper bounds of the numbers of turns by which episodes are reported apart.

Long episodes behave differently: a geometric mean over more tokens moves less.
"""
MISMATCH_BOUND = 2.0
"""`mismatch_share` counts tokens whose learner/sampler ratio is above this or below its inverse."""
STALENESS_APART = 3
"""Tokens of a staleness up to this are reported by it; the older ones together.

A run with `train.look_ahead` N has no token that is older than N versions.
"""
_QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """Numbers of trained tokens, every field [N], on the CPU and without gradient."""

    log_ratio: Tensor
    """log(new policy / old policy)."""
    entropy: Tensor
    """The entropy of the distribution that the token was drawn from, in nats."""
    mismatch: Tensor
    """The learner's old log-prob minus the sampler's."""
    kl: Tensor
    """The k3 estimate of KL(policy || reference), in nats; 0 without a reference."""
    clipped_low: Tensor
    """Whether the lower bound removed the gradient."""
    clipped_high: Tensor
    """Whether the upper bound removed the gradient."""
    clipped_dual: Tensor
    """Whether the dual clip's bound removed the gradient."""
    left_out: Tensor
    """Whether `importance_mask` or `off_policy_mask` took the token out of the loss."""
    turns: Tensor
    """The number of turns of the token's episode."""
    advantage: Tensor
    """The advantage of the token's turn."""
    capped: Tensor
    """Whether `importance_cap` cut the token's weight."""
    staleness: Tensor
    """How many versions older than the learner's the weights were that sampled the token."""
    share: Tensor
    """The token's share of the loss; 0 if it is left out."""
    weight: Tensor
    """The factor of its log-prob's gradient, without the share: advantage times ratio times
    importance weight, and 0 if a clip removed it. It is computed for records that are kept, else
    0."""

    @classmethod
    def joined(cls, records: Sequence[Self]) -> Self:
        """Return one record of all the tokens."""
        columns = {}
        for field in fields(cls):
            columns[field.name] = torch.cat([getattr(record, field.name) for record in records])
        return cls(**columns)

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields by their names."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def selected(self, mask: Tensor) -> "TokenRecord":
        """Return a record of the tokens at which the mask is True."""
        columns = {field.name: getattr(self, field.name)[mask] for field in fields(self)}
        return TokenRecord(**columns)


def update_metrics(steps: Sequence[Metrics], records: Sequence[TokenRecord]) -> Metrics:
    """Return the metrics of one update.

    Those of a token are means over all trained tokens, whatever their optimizer step:

        ratio_mean, ratio_p01, ratio_p50, ratio_p99   new policy / old policy
        log_ratio_rms, log_ratio_abs_max              the spread of its logarithm
        kl_old                                        k3 estimate of KL(old || new), nats
        kl_reference                                  k3 estimate of KL(policy || reference), nats
        clip_fraction_low, clip_fraction_high         tokens whose gradient the clip removed
        clip_fraction_dual                            tokens whose gradient the dual clip removed
        entropy                                       of the policy's distribution, nats
        mismatch_abs_mean, mismatch_abs_max           |learner's old - sampler's| log-prob, nats
        mismatch_kl                                   k3 estimate of KL(sampler || learner), nats
        mismatch_share                                tokens beyond `MISMATCH_BOUND`
        left_out_share                                tokens that a mask took out of the loss
        effective_share                               (sum of ratios)^2 / (n sum of ratios^2)
        top_share                                     see `_top_share`
        gains/..., losses/...                         log_ratio_p001 and log_ratio_p999 of the
                                                      tokens with A > 0 and with A < 0
        turns_<from>_<to>/...                         the clip fractions and log_ratio_rms of
                                                      episodes with that many turns
        staleness_mean, staleness_max                 versions that the sampler's weights were older
        staleness_<number>/...                        see `_staleness_metrics`

    `grad_norm_spread` is the largest gradient norm of an optimizer step over their median.

    Without any trained token all of them are 0, so every key is always there, but for those of
    `staleness_<number>`.

    Args:
        steps: `loss` and `grad_norm` of each optimizer step; their means are reported.
        records: of the trained tokens, in any number of pieces.
    """
    metrics = {}
    for name in ("loss", "grad_norm"):
        metrics[name] = statistics.fmean(step[name] for step in steps) if steps else 0.0
    norms = [step["grad_norm"] for step in steps]
    metrics["grad_norm_spread"] = max(norms) / (statistics.median(norms) or 1.0) if norms else 0.0
    every = TokenRecord.joined(records) if records else None
    metrics.update(_token_metrics(every))
    metrics["top_share"] = 0.0 if every is None else _top_share(every)
    for name, sign in (("gains", 1), ("losses", -1)):
        tails = [0.0, 0.0]
        if every is not None and (of_sign := every.advantage.sign() == sign).any():
            tails = _quantiles(every.log_ratio[of_sign].double(), [0.001, 0.999])
        metrics[f"{name}/log_ratio_p001"], metrics[f"{name}/log_ratio_p999"] = tails
    for low, high in pairwise((0, *TURN_BUCKETS, math.inf)):
        within = None
        if every is not None:
            within = every.selected((every.turns > low) & (every.turns <= high))
        name = f"turns_over_{low}" if math.isinf(high) else f"turns_{low + 1}_{high}"
        of_bucket = _token_metrics(within)
        for key in ("clip_fraction_low", "clip_fraction_high", "log_ratio_rms"):
            metrics[f"{name}/{key}"] = of_bucket[key]
    metrics.update(_staleness_metrics(every))
    metrics["trained_tokens"] = 0.0 if every is None else float(every.log_ratio.numel())
    return metrics


def _staleness_metrics(every: TokenRecord | None) -> Metrics:
    """Return the staleness, and by its values what corrects it.

    For each value that some token has, up to `STALENESS_APART`, and all above it together:

        token_share                                   its share of the trained tokens
        mismatch_rms                                  the spread of log(learner's old / sampler's)
        log_ratio_rms                                 the spread of log(new policy / old policy)
        clip_fraction_low, clip_fraction_high         tokens whose gradient the clip removed
        capped_share                                  tokens whose weight `importance_cap` cut
        left_out_share                                tokens that a mask took out of the loss

    If no token is stale there is nothing to tell apart, and none of these keys.
    """
    if every is None or not every.staleness.any():
        return {"staleness_mean": 0.0, "staleness_max": 0.0}
    metrics = {
        "staleness_mean": _mean(every.staleness),
        "staleness_max": float(every.staleness.max()),
    }
    # One more than STALENESS_APART stands for all above it.
    grouped = every.staleness.clamp(max=STALENESS_APART + 1)
    for value in range(STALENESS_APART + 2):
        within = every.selected(grouped == value)
        if not within.staleness.numel():
            continue
        is_rest = value > STALENESS_APART
        name = f"staleness_over_{STALENESS_APART}" if is_rest else f"staleness_{value}"
        of_value = {
            "token_share": within.staleness.numel() / every.staleness.numel(),
            "mismatch_rms": _rms(within.mismatch),
            "log_ratio_rms": _rms(within.log_ratio),
            "clip_fraction_low": _mean(within.clipped_low),
            "clip_fraction_high": _mean(within.clipped_high),
            "capped_share": _mean(within.capped),
            "left_out_share": _mean(within.left_out),
        }
        metrics.update({f"{name}/{key}": number for key, number in of_value.items()})
    return metrics


def _mean(values: Tensor) -> float:
    return float(values.double().mean())


def _rms(values: Tensor) -> float:
    return math.sqrt(_mean(values.double().square()))


def _effective_share(log_ratio: Tensor) -> float:
    """Return the share of as many tokens of equal ratios that would have the same variance."""
    x = log_ratio.double()
    log_share = 2 * x.logsumexp(0) - (2 * x).logsumexp(0) - math.log(x.numel())
    return float(log_share.exp())


def _top_share(record: TokenRecord) -> float:
    """Return how concentrated the gradient is: the share that the top 1 % of the tokens hold.

    It is their part of the sum of |A| times ratio, in which GRPO without a clip weighs its tokens.
    Equal weights give 0.01, or the share of one token if there are fewer than a hundred.
    """
    weights = (record.log_ratio.double().exp() * record.advantage.double().abs()).sort().values
    whole = float(weights.sum())
    top = weights[-math.ceil(len(weights) / 100) :]
    return float(top.sum()) / whole if whole else 0.0


def _quantiles(values: Tensor, shares: Sequence[float]) -> list[float]:
    # Sorted by hand, as torch.quantile refuses more than 16 million numbers.
    ordered = values.sort().values
    return [float(ordered[int(share * (len(ordered) - 1))]) for share in shares]


def _token_metrics(record: TokenRecord | None) -> Metrics:
    """Return the metrics of a record's tokens; without any token all are 0."""
    is_empty = record is None or not record.log_ratio.numel()
    if record is None or is_empty:
        zero = torch.zeros(1)
        record = TokenRecord(**{field.name: zero for field in fields(TokenRecord)})
    ratio = record.log_ratio.double().exp()
    found = _quantiles(ratio, list(_QUANTILES.values()))
    quantiles = {f"ratio_{name}": value for name, value in zip(_QUANTILES, found, strict=True)}

    metrics = {
        "ratio_mean": _mean(ratio),
        **quantiles,
        "effective_share": _effective_share(record.log_ratio),
        "log_ratio_rms": _rms(record.log_ratio),
        "log_ratio_abs_max": float(record.log_ratio.abs().max()),
        # k3 of (policy, reference) sees the difference only. The tokens were drawn from the old
        # policy, so here the old one is "policy" and the new one "reference".
        "kl_old": _mean(kl_k3(-record.log_ratio, torch.zeros_like(record.log_ratio))),
        "kl_reference": _mean(record.kl),
        "clip_fraction_low": _mean(record.clipped_low),
        "clip_fraction_high": _mean(record.clipped_high),
        "clip_fraction_dual": _mean(record.clipped_dual),
        "entropy": _mean(record.entropy),
        "mismatch_abs_mean": _mean(record.mismatch.abs()),
        "mismatch_abs_max": float(record.mismatch.abs().max()),
        "mismatch_kl": _mean(kl_k3(-record.mismatch, torch.zeros_like(record.mismatch))),
        "mismatch_share": _mean(record.mismatch.abs() > math.log(MISMATCH_BOUND)),
        "left_out_share": _mean(record.left_out),
    }
    return dict.fromkeys(metrics, 0.0) if is_empty else metrics
