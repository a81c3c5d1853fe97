"""The speed of an update: tokens a second, FLOP utilisation, shared prefixes, peak memory."""

import functools
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from agent_rl.learner.batch import Batch
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.scoring import Scorer


@dataclass(kw_only=True)
class Work:
    """The work of one rank."""

    operations: float = 0.0
    """Floating-point operations."""
    positions: int = 0
    """Positions that went through the model."""
    tokens: int = 0
    """Tokens that they stand for: more, if samples share their beginnings."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the numbers as tensors, which ranks can exchange."""
        return {
            "operations": torch.tensor(self.operations, dtype=torch.float64),
            "positions": torch.tensor(self.positions),
            "tokens": torch.tensor(self.tokens),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return what `tensors` was made of."""
        return cls(
            operations=float(tensors["operations"]),
            positions=int(tensors["positions"]),
            tokens=int(tensors["tokens"]),
        )


class Throughput:
    """A stopwatch and counter for one update.

    `model_flop_utilisation` is the share of the machine's speed that the model's matrices got, on
    average over the ranks. It counts two operations for each weight of a matrix and each token,
    forwards once and backwards twice. The speed is that of one large matrix product on this
    machine. Attention's own products count as nothing, and neither do the layers that activation
    checkpointing computes again.

    `shared_prefixes` is the share of tokens that did not go through the model, because a position
    of another sample stood for them.
    """

    def __init__(self, scorer: Scorer, device: torch.device, dtype: str) -> None:
        """Start the clock; on CUDA also reset the peak of memory."""
        self._started = time.perf_counter()
        self._device = device
        self._peak = peak_flops(str(device), dtype)
        self._decoder_weights, self._head_weights = scorer.matrix_weights()
        self.work = Work()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def count(self, batch: Batch, *, passes: int) -> None:
        """Add a batch that went through the model.

        Args:
            batch: the batch.
            passes: 1 for a forward pass; 3 with its backward pass, which costs as much as two.
        """
        decoder = self._decoder_weights * batch.tree.size
        head = self._head_weights * len(batch.predicts_R)
        self.work.operations += 2.0 * passes * (decoder + head)
        self.work.positions += batch.tree.size
        self.work.tokens += batch.tokens

    def metrics(self, tokens: int, of_ranks: Sequence[Work]) -> Metrics:
        """Return the metrics of the update so far.

        Args:
            tokens: of all samples, those without a gradient included.
            of_ranks: the `work` of every rank.
        """
        seconds = time.perf_counter() - self._started
        operations = sum(work.operations for work in of_ranks) / len(of_ranks)
        positions = sum(work.positions for work in of_ranks)
        without_sharing = sum(work.tokens for work in of_ranks)
        return {
            "tokens": float(tokens),
            "seconds": seconds,
            "tokens_per_second": tokens / seconds,
            "shared_prefixes": 1.0 - positions / without_sharing if without_sharing else 0.0,
            "model_flop_utilisation": operations / seconds / self._peak,
            "peak_memory_gib": peak_memory_bytes(self._device) / 2**30,
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak of memory: on CUDA since the update began, on CPU since the process began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    # Not getrusage, if there is a choice: it starts at the memory that the parent process had.
    if status.is_file():
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def peak_flops(device: str, dtype: str) -> float:
    """Return the operations a second of a large matrix product: the best of five.

    It is measured once in a process, within a second.
    """
    size = 4096 if device.startswith("cuda") else 1024
    left = torch.ones(size, size, dtype=getattr(torch, dtype), device=device)
    best = 0.0
    for _ in range(5):
        begin = time.perf_counter()
        float((left @ left)[0, 0])
        best = max(best, 2.0 * size**3 / (time.perf_counter() - begin))
    return best
