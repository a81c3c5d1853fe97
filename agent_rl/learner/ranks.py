"""Ranks: the processes that train one model together, seen from one of them."""

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

M = TypeVar("M", bound=nn.Module)


class Ranks:
    """One process alone; `ShardedRanks` (`agent_rl.learner.sharding`) is several.

    All ranks make the same calls in the same order.
    """

    rank: int = 0
    """The number of this process, from 0."""
    size: int = 1
    """The number of processes."""

    def shard(self, module: M, *, bfloat16: bool = False) -> M:
        """Return the module with its weights and gradients divided among the ranks.

        Gradients are summed over the ranks, not averaged. No-op with one rank.

        Args:
            bfloat16: whether the decoder computes in bfloat16, so its weights may travel so.
        """
        return module

    def gather(self, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
        """Return every rank's tensors on CPU, in the order of the ranks.

        Ranks may give different names, shapes and dtypes, and none at all.
        """
        return [dict(tensors)]

    def clip_gradients(self, parameters: list[nn.Parameter], most: float) -> float:
        """Scale the gradients down to a norm of `most`; return the norm before, over all ranks."""
        return float(clip_grad_norm_(parameters, most))
