"""Attention over samples that lie one after the other: each token attends to the earlier ones of its own sample.

A mask over the whole pack would say the same and cost the square of the pack's length. Here every sample is attended
to on its own (on CPU), or all of them by one kernel that knows where each begins (on CUDA, in half precision).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel

NAME = "agent_rl_packed"


def use_packed_attention(model: PreTrainedModel) -> None:
    """Let `model` take packs: call its decoder with `lengths=(...)`, `input_ids` and `position_ids` of shape [1, T].

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
    lengths: tuple[int, ...] = (),
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each of `lengths`, which sum to T.

    Args:
        query: [1, heads, T, head size]; `key` and `value` may have fewer heads.

    Returns:
        [1, T, heads, head size], and no weights.
    """
    assert lengths, "this model's attention takes packs; for other calls, `set_attn_implementation('sdpa')` first"
    assert attention_mask is None, "a pack has no mask"
    assert not dropout, "dropout would make old and new log-probs those of different policies"
    assert query.shape[0] == 1, query.shape
    assert query.shape[2] == sum(lengths), (query.shape, lengths)
    if sliding_window is not None and max(lengths) > sliding_window:
        raise ValueError(
            f"a sample has {max(lengths)} tokens, but the model's attention reaches back only {sliding_window} "
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
        return _one_kernel(query.to(value.dtype), key.to(value.dtype), value, lengths, scaling), None
    grouped = key.shape[1] != query.shape[1]
    parts = [
        functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*(torch.split(x, list(lengths), dim=2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _one_kernel(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scaling: float | None) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    begins = torch.tensor([0, *lengths], device=query.device).cumsum(0).to(torch.int32)
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    longest = max(lengths)
    grouped = q.shape[1] != k.shape[1]
    causal = (-1, 0)
    out = varlen_attn(q, k, v, begins, begins, longest, longest, scale=scaling, window_size=causal, enable_gqa=grouped)
    assert isinstance(out, Tensor)
    return out[None]
