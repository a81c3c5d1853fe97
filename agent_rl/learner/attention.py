"""Attention over samples that lie in one pack: each token attends to the earlier ones of its own
sample.

What samples begin with alike stands in the pack once (`agent_rl.learner.prefix_tree`). A mask over
the whole pack would say the same and cost the square of the pack's length. Here every branch is
attended to on its own (on CPU), or all of them by one kernel that knows where each begins (on CUDA,
in half precision).
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


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let `model` take packs: call its decoder with `branches=(...)`, `input_ids` and
    `position_ids` of shape [1, T].

    Raises:
        ValueError: the model's attention cannot be replaced.
    """
    if not getattr(model, "_supports_attention_backend", False):
        raise ValueError(
            f"model {type(model).__name__}: its attention cannot be exchanged, so samples cannot be packed; use a "
            "model of another architecture, such as Llama, Qwen2.5 or SmolLM2"
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
    """Causal attention of each branch to what leads to it and to itself.

    Args:
        query: [1, heads, T, head size]; `key` and `value` may have fewer heads.
        branches: of the T positions, in their order.

    Returns:
        [1, T, heads, head size], and no weights.
    """
    assert branches, (
        "this model's attention takes packs; for other calls, `set_attn_implementation('sdpa')` first"
    )
    assert attention_mask is None, "a pack has no mask"
    assert not dropout, "dropout would make old and new log-probs those of different policies"
    assert query.shape[0] == 1, query.shape
    assert query.shape[2] == branches[-1].end, (query.shape, branches[-1])
    longest = max(branch.depth + branch.end - branch.begin for branch in branches)
    if sliding_window is not None and longest > sliding_window:
        raise ValueError(
            f"a sample has {longest} tokens, but the model's attention reaches back only {sliding_window} "
            "(sliding_window); shorten the episodes, or use another model"
        )
    for name in ("softcap", "s_aux", "position_bias"):
        if others.get(name) is not None:
            raise ValueError(
                f"the model's attention has {name}, which packed attention does not apply; use a model of another "
                "architecture, such as Llama, Qwen2.5 or SmolLM2"
            )
    if query.is_cuda and value.dtype in (torch.bfloat16, torch.float16):
        # Under autocast the rotary embedding leaves queries and keys in float32.
        return _one_kernel(
            query.to(value.dtype), key.to(value.dtype), value, branches, scaling
        ), None
    grouped = key.shape[1] != query.shape[1]
    layout = _layout(branches, query.device)
    # Splitting has one gradient for all parts; a slice's would be as large as the pack, for each
    # branch.
    parts = [
        _of_branch(q, k, v, scaling, grouped)
        for q, k, v in zip(
            torch.split(query, layout.query_lengths, dim=2),
            torch.split(_at(key, layout.keys, 2), layout.key_lengths, dim=2),
            torch.split(_at(value, layout.keys, 2), layout.key_lengths, dim=2),
            strict=True,
        )
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """How many queries and keys each branch has, and which positions those keys are (None: all, in
    their order).
    """

    query_lengths: list[int]
    key_lengths: list[int]
    keys: Tensor | None


@lru_cache(maxsize=2)
def _layout(branches: tuple[Branch, ...], device: torch.device) -> _Layout:
    """All layers of a pass ask for the same."""
    own = [branch.end - branch.begin for branch in branches]
    whole = [length + branch.depth for length, branch in zip(own, branches, strict=True)]
    keys = None
    if own != whole:
        spans = [span for branch in branches for span in branch.path]
        keys = torch.cat([torch.arange(begin, end) for begin, end in spans]).to(device)
    return _Layout(query_lengths=own, key_lengths=whole, keys=keys)


def _at(x: Tensor, positions: Tensor | None, dim: int) -> Tensor:
    return x if positions is None else x.index_select(dim, positions)


def _of_branch(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, grouped: bool) -> Tensor:
    depth = k.shape[2] - q.shape[2]
    mask = None
    if depth:
        # The branch's first position sees all that leads to it, its last one everything.
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(depth)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=grouped
    )


def _one_kernel(
    query: Tensor, key: Tensor, value: Tensor, branches: tuple[Branch, ...], scaling: float | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    def begins(lengths: list[int]) -> Tensor:
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
        window_size=(-1, 0),  # causal; the last query sees the last key
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, Tensor)
    return out[None]
