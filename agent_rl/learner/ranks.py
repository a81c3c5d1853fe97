"""What a learner needs of the processes that it shares its work with; alone, nothing is left to do."""

from typing import Protocol, TypeVar

from torch import nn
from torch.nn.utils import clip_grad_norm_

T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


class Ranks(Protocol):
    """The processes that train one model together, seen from one of them. All make the same calls
    in the same order.
    """

    rank: int
    size: int

    def shard(self, module: M) -> M:
        """Share a module's weights and gradients out. Gradients are summed over the ranks, not
        averaged.
        """
        ...

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in their order."""
        ...

    def clip_gradients(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients down to a norm of `most`; returns the norm before, over all ranks."""
        ...


class OneRank:
    """No other process."""

    rank = 0
    size = 1

    def shard(self, module: M) -> M:
        return module

    def gather(self, value: T) -> list[T]:
        return [value]

    def clip_gradients(self, parameters: list[nn.Parameter], most: float) -> float:
        return float(clip_grad_norm_(parameters, most))


ONE = OneRank()
