"""The memory of tensors while a program runs: by CUDA's allocator, or counted on a CPU."""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class MemoryMeter(Protocol):
    """Bytes of tensors that are there now, and the most since the last `reset`."""

    @property
    def now(self) -> int:
        """The bytes now."""

    @property
    def peak(self) -> int:
        """The most bytes since `reset`."""

    def reset(self) -> None:
        """Let `peak` begin again."""


@contextmanager
def memory_meter(device: torch.device, tensors: Iterable[Tensor]) -> Iterator[MemoryMeter]:
    """Measure within this context.

    Args:
        device: where tensors are counted: all of a CUDA device, or those made on a CPU meanwhile.
        tensors: those that are there already, such as a model's weights.
    """
    if device.type == "cuda":
        yield _Cuda(device)
    else:
        with _Counted(tensors) as meter:
            yield meter


class _Cuda:
    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def now(self) -> int:
        torch.cuda.synchronize(self._device)
        return torch.cuda.memory_allocated(self._device)

    @property
    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device)

    def reset(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storage of each tensor that an operation returns, until it is freed."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: set[int] = set()
        for tensor in tensors:
            self._count(tensor)

    def reset(self) -> None:
        self.peak = self.now

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in tree_iter(out):
            if isinstance(value, Tensor):
                self._count(value)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        # Views share it, and it is one object however it is asked for.
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
