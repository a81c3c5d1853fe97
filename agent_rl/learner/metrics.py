"""The numbers that people watch while a learner works; `docs/metrics.md` says how to read them."""

import functools
import math
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from agent_rl.learner.batch import Batch
from agent_rl.learner.scoring import Scorer
from agent_rl.objective.policy_loss import kl_k3

Metrics = dict[str, float]

TURN_BUCKETS = (10, 20, 30)
"""Episodes of up to so many turns are looked at apart, as are those with more than the last."""
MISMATCH_BOUND = 2.0
"""`mismatch_share` is that of tokens whose learner/sampler ratio is beyond it, or below its
inverse.
"""
_QUANTILES = {"p01": 0.01, "p50": 0.5, "p99": 0.99}


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """What is kept of trained tokens, every field [N], on the CPU and without gradient.

    `log_ratio`: new against old policy. `mismatch`: the learner's old log-prob less the sampler's.
    `kl`: k3 against the reference, 0 without one. `clipped_*`: the clip removed the gradient.
    `left_out` by `importance_mask`. `turns`: those of the token's episode.
    """

    log_ratio: Tensor
    entropy: Tensor
    mismatch: Tensor
    kl: Tensor
    clipped_low: Tensor
    clipped_high: Tensor
    left_out: Tensor
    turns: Tensor

    @classmethod
    def joined(cls, records: Sequence[Self]) -> Self:
        """One record of them all."""
        return cls(
            **{
                f.name: torch.cat([getattr(record, f.name) for record in records])
                for f in fields(cls)
            }
        )


def update_metrics(steps: Sequence[Metrics], records: Sequence[TokenRecord]) -> Metrics:
    """The metrics of one update: means over its optimizer steps (`loss`, `grad_norm`) and over its
    trained tokens.

    ratio_mean, ratio_p01, ratio_p50, ratio_p99   pi_new / pi_old of a token log_ratio_rms,
    log_ratio_abs_max              its logarithm's spread kl_old
    k3 estimate of KL(old || new), nats a token kl_reference                                  k3
    estimate of KL(policy || reference), nats a token clip_fraction_low, clip_fraction_high
    exactly the tokens whose gradient the clip removed mismatch_abs_mean, mismatch_abs_max
    |learner's old - sampler's| log-prob, nats mismatch_kl, mismatch_share                   k3
    estimate of KL(sampler || learner); beyond `MISMATCH_BOUND` left_out_share
    tokens that `importance_mask` took out turns_*/...                                   clip
    fractions and spread by the turns of the token's episode

    With nothing trained all are 0, so that a metric's key is always there.
    """
    loss = {
        name: statistics.fmean(step[name] for step in steps) if steps else 0.0
        for name in ("loss", "grad_norm")
    }
    every = TokenRecord.joined(records) if records else None
    metrics = {**loss, **_token_metrics(every)}
    low = 0
    for high in (*TURN_BUCKETS, math.inf):
        name = f"turns_{low + 1}_{high:.0f}" if high < math.inf else f"turns_over_{low}"
        part = None if every is None else _where(every, (every.turns > low) & (every.turns <= high))
        inside = _token_metrics(part)
        for key in ("clip_fraction_low", "clip_fraction_high", "log_ratio_rms"):
            metrics[f"{name}/{key}"] = inside[key]
        low = int(high) if high < math.inf else low
    return {**metrics, "trained_tokens": 0.0 if every is None else float(every.log_ratio.numel())}


def _token_metrics(record: TokenRecord | None) -> Metrics:
    nothing = record is None or not record.log_ratio.numel()
    zero = torch.zeros(1)
    if nothing or record is None:
        record = TokenRecord(**{f.name: zero for f in fields(TokenRecord)})
    ratio = record.log_ratio.double().exp()
    # Few numbers, all of them: torch.quantile refuses more than 16 million.
    ordered = ratio.sort().values
    quantiles = {
        f"ratio_{name}": float(ordered[int(q * (len(ordered) - 1))])
        for name, q in _QUANTILES.items()
    }

    def mean(values: Tensor) -> float:
        return float(values.double().mean())

    metrics = {
        "ratio_mean": mean(ratio),
        **quantiles,
        "log_ratio_rms": math.sqrt(mean(record.log_ratio.double().square())),
        "log_ratio_abs_max": float(record.log_ratio.abs().max()),
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
    return dict.fromkeys(metrics, 0.0) if nothing else metrics


def _where(record: TokenRecord, chosen: Tensor) -> TokenRecord:
    return TokenRecord(**{f.name: getattr(record, f.name)[chosen] for f in fields(TokenRecord)})


@dataclass(kw_only=True)
class Work:
    """What went through the model in one rank: operations, positions, and the samples' tokens that
    they stand for.
    """

    operations: float = 0.0
    positions: int = 0
    tokens: int = 0


class Throughput:
    """How fast an update went, and in how much memory.

    `model_flop_utilisation` counts two operations for each weight of a matrix that a token passes
    through, forwards once and backwards twice, against the rate of one large product of matrices on
    this machine. Attention's own products and everything else count as nothing, and so does what
    activation checkpointing computes again. It is that of a rank, on average. `shared_prefixes` is
    the share of tokens that did not go through the model, as another sample's stood for them.
    """

    def __init__(self, scorer: Scorer, device: torch.device, dtype: str) -> None:
        self._started = time.perf_counter()
        self._device = device
        self._peak = peak_flops(str(device), dtype)
        self._decoder_weights, self._head_weights = scorer.matrix_weights()
        self.work = Work()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def count(self, batch: Batch, *, passes: int) -> None:
        """A batch went through the model: 1 pass forwards, 3 with the backward one."""
        weights = self._decoder_weights * batch.tree.size + self._head_weights * len(
            batch.predicts_R
        )
        self.work.operations += 2.0 * passes * weights
        self.work.positions += batch.tree.size
        self.work.tokens += batch.tokens

    def metrics(self, tokens: int, of_ranks: Sequence["Work"]) -> Metrics:
        """`tokens` of all samples, with and without a gradient, and the `work` of all ranks."""
        seconds = time.perf_counter() - self._started
        operations = sum(work.operations for work in of_ranks) / len(of_ranks)
        positions, taken = (
            sum(getattr(work, name) for work in of_ranks) for name in ("positions", "tokens")
        )
        return {
            "tokens": float(tokens),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "shared_prefixes": 1.0 - positions / taken if taken else 0.0,
            "model_flop_utilisation": operations / seconds / self._peak,
            "peak_memory_gib": peak_memory_bytes(self._device) / 2**30,
        }


def peak_memory_bytes(device: torch.device) -> int:
    """On CUDA since the update began, on CPU in the process's life."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent had when it started this process
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def peak_flops(device: str, dtype: str) -> float:
    """Operations a second in a product of two square matrices, the best of five; measured once,
    within a second.
    """
    size = 4096 if device.startswith("cuda") else 1024
    left = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        float((left @ left)[0, 0])
        best = max(best, 2.0 * size**3 / (time.perf_counter() - begin))
    return best
