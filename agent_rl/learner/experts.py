"""The experts of a mixture, each computed on the rows of the tokens that were sent to it.

transformers has implementations of its own. One gives each expert a gradient as large as those of
all of them together. The other multiplies in float32 under autocast.

Letters are those of `agent_rl.learner.scoring`, and

    K   the experts of a token
    S   choices: T times K
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.integrations.moe import ExpertsInterface

NAME = "agent_rl_by_expert"


def use_experts_by_rows(model: PreTrainedModel) -> None:
    """Let a model compute its experts here, if it has any and they are of the plain kind.

    Others, as those with biases, keep the implementation of transformers.
    """
    experts: list[Any] = [part for part in model.modules() if hasattr(part, "gate_up_proj")]
    stacks = [part for part in experts if isinstance(part.gate_up_proj, Tensor)]
    if stacks and all(_is_plain(part) for part in stacks):
        ExpertsInterface.register(NAME, by_expert)
        model.set_experts_implementation(NAME)


def by_expert(module: Any, hidden_TH: Tensor, expert_TK: Tensor, share_TK: Tensor) -> Tensor:
    """Return the sum of each token's experts, weighted by the router.

    The signature is that of transformers' functions for experts.

    Args:
        module: the layer's experts.
        hidden_TH: their input.
        expert_TK: the experts of each token, all different.
        share_TK: the weight of each.
    """
    hidden_size, (tokens, chosen) = hidden_TH.shape[1], expert_TK.shape
    # Choices in the order of their experts, and each expert's number of them.
    order_S = expert_TK.reshape(-1).argsort(stable=True)
    counts = torch.bincount(expert_TK.reshape(-1), minlength=module.num_experts).tolist()
    # A permutation of copies: in the backward pass no two rows are added to the same place, so the
    # sum does not depend on threads.
    copies_SH = hidden_TH[:, None].expand(-1, chosen, -1).reshape(-1, hidden_size)
    parts = [
        functional.linear(module._apply_gate(functional.linear(rows, gate_up)), down)
        for rows, gate_up, down in zip(
            torch.split(copies_SH[order_S], counts),
            # Not one expert after the other: the gradient of each would be as large as the stack.
            module.gate_up_proj.unbind(0),
            module.down_proj.unbind(0),
            strict=True,
        )
    ]
    back_S = torch.empty_like(order_S)
    back_S[order_S] = torch.arange(len(order_S), device=order_S.device)
    out_TKH = torch.cat(parts)[back_S].view(tokens, chosen, hidden_size)
    return (out_TKH * share_TK[..., None]).sum(1).to(hidden_TH.dtype)


def _is_plain(experts: Any) -> bool:
    """Whether experts are gated, and neither biased nor stored transposed or by turns."""
    kind = (experts.has_gate, experts.is_concatenated, experts.has_bias, experts.is_transposed)
    return kind == (True, True, False, False)
