"""Log-probs of the agent's tokens under a model."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.batch import Batch


@dataclass(frozen=True, kw_only=True)
class Scores:
    """`logprobs_BT`: of the targets, 0 outside the mask. The sums are over agent tokens, scalars without gradient."""

    logprobs_BT: Tensor
    entropy_sum: Tensor
    correct_sum: Tensor


def score(model: PreTrainedModel, batch: Batch, *, temperature: float, autocast: bool) -> Scores:
    """Score a batch's agent tokens at a sampling temperature; log-probs are natural, at least float32.

    The head runs on the agent's positions only (a quarter of them, typically) and outside autocast: bfloat16 logits
    would be off by hundredths of a nat. `entropy_sum` is in nats; `correct_sum` counts tokens that are the most likely.
    """
    head = cast(torch.nn.Linear, model.get_output_embeddings())  # type: ignore[no-untyped-call]
    device_type = batch.input_ids_BT.device.type
    with torch.autocast(device_type, dtype=torch.bfloat16, enabled=autocast):
        # No attention mask: padding stands right of everything that a causal model reads.
        hidden_BTH = cast(Any, model.base_model)(input_ids=batch.input_ids_BT, use_cache=False).last_hidden_state
    mask_BT = batch.action_mask_BT
    head_dtype = head.weight.dtype
    logits_NV = head(hidden_BTH[mask_BT].to(head_dtype))
    logits_NV = logits_NV.to(torch.promote_types(head_dtype, torch.float32)) / temperature
    targets_N = batch.target_ids_BT[mask_BT]
    log_total_N = logits_NV.logsumexp(-1)
    logprobs_N = logits_NV.gather(-1, targets_N[:, None]).squeeze(-1) - log_total_N
    with torch.no_grad():
        probs_NV = (logits_NV - log_total_N[:, None]).exp()
        entropy_N = log_total_N - (probs_NV * logits_NV).sum(-1)
        correct_N = logits_NV.argmax(-1) == targets_N
    empty_BT = logprobs_N.new_zeros(mask_BT.shape)
    return Scores(
        logprobs_BT=empty_BT.masked_scatter(mask_BT, logprobs_N),
        entropy_sum=entropy_N.sum(),
        correct_sum=correct_N.sum(),
    )
