"""Sequence packing: attention over a pack, in which each token attends to its own sample only.

Samples of a pack share their common beginnings (`agent_rl.learner.prefix_tree`), so a sample's
tokens need not be neighbours. In the example of `agent_rl.learner.batch` the samples are

    7 8 4 2 9   at positions 0 1 2 3 4      branch 0: queries 0 to 4, keys 0 to 4
    7 8 4 3 9   at positions 0 1 2 5 6      branch 1: queries 5 and 6, keys 0 1 2 5 6

and who attends to whom, with queries from top to bottom and keys from left to right, is

              0 1 2 3 4 5 6
    7   0     x . . . . . .
    8   1     x x . . . . .
    4   2     x x x . . . .
    2   3     x x x x . . .
    9   4     x x x x x . .      causal within branch 0
    3   5     x x x . . x .      the common beginning, then the rest of branch 1;
    9   6     x x x . . x x      nothing of branch 0 after the fork

A mask over the whole pack would say the same, at the cost of the square of the pack's length. Here
each branch computes only its own queries against its own keys: branch by branch on CPU, and in one
kernel for all branches on CUDA in half precision.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

from agent_rl.learner.prefix_tree import Branch

NAME = "agent_rl_packed"
_HALF = (torch.bfloat16, torch.float16)
_IN_FLOAT32 = 512
"""The most queries of a branch that are computed in float32 on CPU, even under autocast.

torch's kernel has a slow backward pass in bfloat16, and it compiles its products for each new
length. Longer branches are filled up to a multiple of `_ROUND`, so their lengths return. One core
with bfloat16 in hardware took for forward and backward, at ever other lengths (9 heads of 64, 3 of
them keys and values; milliseconds):

    queries             40   110   200   330   600   1200
    bfloat16           4.2    13    13    21    34     79
    filled up          2.0   4.6   5.8    10    25     61
    float32            0.5   1.7   3.9   8.5    23     75
"""
_ROUND = 32


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let a model take packs.

    Its decoder is then called with `input_ids` and `position_ids` of shape [1, T], and with
    `branches`, those of the pack's `PrefixTree`.

    Raises:
        ValueError: the model's attention cannot be replaced.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(
            f"model {type(model).__name__}: its attention cannot be exchanged, so samples cannot "
            "be packed; use a model of another architecture, such as Llama, Qwen2.5 or SmolLM2"
        )
    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    branches: tuple[Branch, ...] = (),
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Compute causal attention of each branch to itself and to the spans that lead to it.

    The signature is that of transformers' attention functions.

    Args:
        module: the layer's attention; not used.
        query: [1, heads, T, head size].
        key: as `query`, or with fewer heads (grouped-query attention).
        value: as `key`.
        attention_mask: None, as `branches` take its place.
        branches: of all T positions, in their order.
        scaling: of the scores; None is 1 / sqrt(head size).
        dropout: 0.
        sliding_window: the model's; samples must not be longer.
        others: refused if they change the scores.

    Returns:
        The output, [1, T, heads, head size], and None for the weights.

    Raises:
        ValueError: a sample is longer than the sliding window, or the model's attention has a part
            that is not computed here.
    """
    assert branches, (
        "this model's attention takes packs; "
        "for other calls, `set_attn_implementation('sdpa')` first"
    )
    assert attention_mask is None, "a pack has no mask"
    assert not dropout, "dropout would make old and new log-probs those of different policies"
    assert query.shape[0] == 1, query.shape
    assert query.shape[2] == branches[-1].end, (query.shape, branches[-1])
    _check_plain(branches, sliding_window, others)
    if query.is_cuda and value.dtype in _HALF:
        # Under autocast the rotary embedding leaves queries and keys in float32, which the kernel
        # does not take.
        query, key = query.to(value.dtype), key.to(value.dtype)
        return _one_kernel(query, key, value, branches, scaling), None
    return _branch_by_branch(query, key, value, branches, scaling), None


def _check_plain(
    branches: tuple[Branch, ...], sliding_window: int | None, others: dict[str, Any]
) -> None:
    """Raise ValueError if the model's attention is not plain causal attention on these samples."""
    longest = max(branch.depth + branch.end - branch.begin for branch in branches)
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(
            f"a sample has {longest} tokens, but the model's attention reaches back only "
            f"{sliding_window} (sliding_window); shorten the episodes, or use another model"
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise ValueError(
                f"the model's attention has {name}, which packed attention does not apply; "
                "use a model of another architecture, such as Llama, Qwen2.5 or SmolLM2"
            )


def _branch_by_branch(
    query: Tensor, key: Tensor, value: Tensor, branches: tuple[Branch, ...], scaling: float | None
) -> Tensor:
    """Return the attention of all branches, computed one after the other."""
    grouped = key.shape[1] != query.shape[1]
    layout = _layout(branches, query.device)
    # Not slices: the gradient of each slice would be as large as the pack, once for each branch.
    # `torch.split` has one gradient for all of its parts.
    queries = torch.split(query, layout.query_lengths, dim=2)
    keys = torch.split(_at(key, layout.keys, 2), layout.key_lengths, dim=2)
    values = torch.split(_at(value, layout.keys, 2), layout.key_lengths, dim=2)
    parts = []
    for q, k, v in zip(queries, keys, values, strict=True):
        parts.append(_of_branch(q, k, v, scaling, grouped))
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous()


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The queries and keys of each branch, one branch after the other."""

    query_lengths: list[int]
    """The number of each branch's own positions."""
    key_lengths: list[int]
    """The number of positions on each branch's path, its own included."""
    keys: Tensor | None
    """The positions of all those keys; None if they are all positions in their order."""


@lru_cache(maxsize=2)
def _layout(branches: tuple[Branch, ...], device: torch.device) -> _Layout:
    """Return the layout of a pack. All layers of a pass ask for the same one, so it is cached."""
    own = [branch.end - branch.begin for branch in branches]
    whole = [length + branch.depth for length, branch in zip(own, branches, strict=True)]
    keys = None
    # If some branch has more keys than queries, a beginning is shared: its keys are copied to each
    # branch that attends to them.
    if own != whole:
        spans = [span for branch in branches for span in branch.path]
        keys = torch.cat([torch.arange(begin, end) for begin, end in spans]).to(device)
    return _Layout(query_lengths=own, key_lengths=whole, keys=keys)


def _at(x: Tensor, positions: Tensor | None, dim: int) -> Tensor:
    """Return `x` at some positions of a dimension; None is all of them."""
    return x if positions is None else x.index_select(dim, positions)


def _of_branch(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, grouped: bool) -> Tensor:
    """Return the attention of one branch's queries to the keys on its path."""
    own, depth = q.shape[2], k.shape[2] - q.shape[2]
    half_on_cpu = q.is_cpu and v.dtype in _HALF
    if half_on_cpu and own > _IN_FLOAT32:
        # Nobody sees the zeros at the end but the queries at the end, which are cut off again.
        q, k, v = (_filled_up(x) for x in (q, k, v))
    mask = None
    if depth:
        # The first query sees the `depth` keys before the branch and its own; each further query
        # sees one key more. (`is_causal` would align the first query with the first key instead.)
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(depth)
    options: dict[str, Any] = {"is_causal": mask is None, "scale": scaling, "enable_gqa": grouped}
    if half_on_cpu and own <= _IN_FLOAT32:
        # Without autocast, which would make them bfloat16 again.
        with torch.autocast("cpu", enabled=False):
            q, k, value = q.float(), k.float(), v.float()
            out = functional.scaled_dot_product_attention(q, k, value, attn_mask=mask, **options)
            return out.to(v.dtype)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)[:, :, :own]


def _filled_up(x: Tensor) -> Tensor:
    """Return `x`, [1, heads, L, size], with zeros up to a multiple of `_ROUND` positions."""
    missing = -x.shape[2] % _ROUND
    return functional.pad(x, (0, 0, 0, missing)) if missing else x


def _one_kernel(
    query: Tensor, key: Tensor, value: Tensor, branches: tuple[Branch, ...], scaling: float | None
) -> Tensor:
    """Return the attention of all branches, computed by one kernel on CUDA."""
    from torch.nn.attention.varlen import varlen_attn

    def begins(lengths: list[int]) -> Tensor:
        """The kernel's form of lengths: where each branch begins, and the total."""
        return torch.tensor([0, *lengths], device=query.device).cumsum(0).to(torch.int32)

    layout = _layout(branches, query.device)
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    out = varlen_attn(
        q,
        _at(k, layout.keys, 0),
        _at(v, layout.keys, 0),
        begins(layout.query_lengths),
        begins(layout.key_lengths),
        max(layout.query_lengths),
        max(layout.key_lengths),
        scale=scaling,
        # Causal. The kernel aligns the last query with the last key, as the mask above does.
        window_size=(-1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, Tensor)
    return out[None]
