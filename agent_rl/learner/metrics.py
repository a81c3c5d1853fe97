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
    left_out: Tensor
    """Whether `importance_mask` took the token out of the loss."""
    turns: Tensor
    """The number of turns of the token's episode."""

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
        entropy                                       of the policy's distribution, nats
        mismatch_abs_mean, mismatch_abs_max           |learner's old - sampler's| log-prob, nats
        mismatch_kl                                   k3 estimate of KL(sampler || learner), nats
        mismatch_share                                tokens beyond `MISMATCH_BOUND`
        left_out_share                                tokens that `importance_mask` took out
        turns_<from>_<to>/...                         the clip fractions and log_ratio_rms of
                                                      episodes with that many turns

    Without any trained token all of them are 0, so every key is always there.

    Args:
        steps: `loss` and `grad_norm` of each optimizer step; their means are reported.
        records: of the trained tokens, in any number of pieces.
    """
    metrics = {}
    for name in ("loss", "grad_norm"):
        metrics[name] = statistics.fmean(step[name] for step in steps) if steps else 0.0
    every = TokenRecord.joined(records) if records else None
    metrics.update(_token_metrics(every))
    for low, high in pairwise((0, *TURN_BUCKETS, math.inf)):
        within = None
        if every is not None:
            within = every.selected((every.turns > low) & (every.turns <= high))
        name = f"turns_over_{low}" if math.isinf(high) else f"turns_{low + 1}_{high}"
        of_bucket = _token_metrics(within)
        for key in ("clip_fraction_low", "clip_fraction_high", "log_ratio_rms"):
            metrics[f"{name}/{key}"] = of_bucket[key]
    metrics["trained_tokens"] = 0.0 if every is None else float(every.log_ratio.numel())
    return metrics


def _token_metrics(record: TokenRecord | None) -> Metrics:
    """Return the metrics of a record's tokens; without any token all are 0."""
    is_empty = record is None or not record.log_ratio.numel()
    if record is None or is_empty:
        zero = torch.zeros(1)
        record = TokenRecord(**{field.name: zero for field in fields(TokenRecord)})
    ratio = record.log_ratio.double().exp()
    # Sorted by hand, as torch.quantile refuses more than 16 million numbers.
    ordered = ratio.sort().values
    quantiles = {}
    for name, q in _QUANTILES.items():
        quantiles[f"ratio_{name}"] = float(ordered[int(q * (len(ordered) - 1))])

    def mean(values: Tensor) -> float:
        return float(values.double().mean())

    metrics = {
        "ratio_mean": mean(ratio),
        **quantiles,
        "log_ratio_rms": math.sqrt(mean(record.log_ratio.double().square())),
        "log_ratio_abs_max": float(record.log_ratio.abs().max()),
        # k3 of (policy, reference) sees the difference only. The tokens were drawn from the old
        # policy, so here the old one is "policy" and the new one "reference".
        "kl_old": mean(kl_k3(-record.log_ratio, torch.zeros_like(record.log_ratio))),
        "kl_reference": mean(record.kl),
        "clip_fraction_low": mean(record.clipped_low),
        "clip_fraction_high": mean(record.clipped_high),
        "entropy": mean(record.entropy),
        "mismatch_abs_mean": mean(record.mismatch.abs()),
        "mismatch_abs_max": float(record.mismatch.abs().max()),
        "mismatch_kl": mean(kl_k3(-record.mismatch, torch.zeros_like(record.mismatch))),
        "mismatch_share": mean(record.mismatch.abs() > math.log(MISMATCH_BOUND)),
        "left_out_share": mean(record.left_out),
    }
    return dict.fromkeys(metrics, 0.0) if is_empty else metrics
