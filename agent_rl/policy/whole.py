"""Whole weights of a model whose weights are shared out among processes, one tensor at a time.

With a plain model in one process nothing is gathered, so callers need not ask which it is. All
processes that share a model make the same calls in the same order.
"""

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def is_first() -> bool:
    """Return whether this process is the one that keeps and writes what is gathered."""
    return not dist.is_initialized() or dist.get_rank() == 0


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, in every process; one that is not shared out comes back as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def gathered(
    named: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype | None = None,
    *,
    twins: dict[str, str] | None = None,
) -> Iterator[tuple[str, Tensor]]:
    """Yield whole tensors on CPU in the first process, one at a time, and nothing in the others.

    A tensor is gathered and cast when it is asked for. All processes have to go through to the end.
    A tensor that is whole, on CPU and in the dtype is not copied. A parameter with two names (tied
    embeddings) comes once, under the first.

    Args:
        named: the tensors and their names, with the same ones in every process.
        dtype: of the result; None keeps each tensor's own.
        twins: gets the first name of each further name of a parameter.
    """
    first_names: dict[int, str] = {}
    for name, tensor in named:
        if isinstance(tensor, nn.Parameter):
            first = first_names.setdefault(id(tensor), name)
            if first != name:
                if twins is not None:
                    twins[name] = first
                continue
        full = whole(tensor.detach())
        if is_first():
            yield name, full.to("cpu", dtype or full.dtype).contiguous()


def whole_weights(
    named: Iterable[tuple[str, Tensor]], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """Return all that `gathered` yields; a parameter with two names is one tensor under both."""
    twins: dict[str, str] = {}
    kept = dict(gathered(named, dtype, twins=twins))
    if kept:
        kept |= {name: kept[first] for name, first in twins.items()}
    return kept
