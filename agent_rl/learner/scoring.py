"""Log-probs of the agent's tokens under a model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from agent_rl.learner.attention import use_packed_attention
from agent_rl.learner.batch import Batch
from agent_rl.policy.loading import decoder_and_head


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of the batch's agent tokens, each [N]: log-prob, entropy of the distribution (both nats),
    most likely or not.
    """

    logprobs_N: Tensor
    entropy_N: Tensor
    correct_N: Tensor


class Scorer(nn.Module):
    """Scores batches at a sampling temperature; log-probs are natural, at least float32.

    The decoder runs under autocast, where that is wanted; the head runs outside of it (bfloat16
    logits would be off by hundredths of a nat), and on the agent's positions only, `logit_chunk` of
    them at a time: the logits of an observation's tokens never exist, nor those of all the agent's
    tokens where they are many.

    Args:
        model: changed in place: its attention takes packs from now on
        (`agent_rl.learner.attention`).
        activation_checkpointing: the layers keep their inputs only and are computed again in the
        backward pass.

    Raises:
        ValueError: the model's attention cannot be replaced.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        temperature: float = 1.0,
        autocast: bool = False,
        logit_chunk: int = 4096,
        activation_checkpointing: bool = False,
    ) -> None:
        assert temperature > 0.0, temperature
        super().__init__()
        use_packed_attention(model)
        # eval(): dropout would make the old log-probs and the new ones those of different policies.
        model.eval()  # type: ignore[no-untyped-call]
        self.model = model
        self._temperature = temperature
        self._autocast = autocast
        self._logit_chunk = logit_chunk
        if activation_checkpointing:
            _checkpoint_layers(model)

    def forward(self, batch: Batch, entropy_gradient: bool = False) -> Scores:
        """The batch's scores; `entropy_N` has a gradient only where that is asked for."""
        decoder, head = decoder_and_head(self.model)
        with torch.autocast(
            batch.input_ids_T.device.type, dtype=torch.bfloat16, enabled=self._autocast
        ):
            hidden_TH = decoder(
                input_ids=batch.input_ids_T[None],
                position_ids=batch.position_ids_T[None],
                use_cache=False,
                branches=batch.tree.branches,
            ).last_hidden_state[0]
        hidden_RH = hidden_TH[batch.predicts_R].to(head.weight.dtype)
        cut = (torch.split(values, self._logit_chunk) for values in (hidden_RH, batch.target_ids_R))
        chunks = list(zip(*cut, strict=True))
        again = torch.is_grad_enabled() and len(chunks) > 1
        parts = [
            checkpoint(self._head, head, hidden, targets, entropy_gradient, use_reentrant=False)
            if again
            else self._head(head, hidden, targets, entropy_gradient)
            for hidden, targets in chunks
        ]
        logprobs, entropy, correct = (torch.cat(column) for column in zip(*parts, strict=True))
        row_N = batch.row_N
        return Scores(
            logprobs_N=logprobs[row_N], entropy_N=entropy[row_N], correct_N=correct[row_N]
        )

    def matrix_weights(self) -> tuple[int, int]:
        """How many weights stand in the decoder's matrices, embeddings left out, and in the head's."""
        decoder, head = decoder_and_head(self.model)
        linear = [module for module in decoder.modules() if isinstance(module, nn.Linear)]
        return sum(module.weight.numel() for module in linear), head.weight.numel()

    def _head(
        self, head: nn.Linear, hidden_CH: Tensor, targets_C: Tensor, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits_CV = head(hidden_CH)
        logits_CV = (
            logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32)) / self._temperature
        )
        log_total_C = logits_CV.logsumexp(-1)
        logprobs_C = logits_CV.gather(-1, targets_C[:, None]).squeeze(-1) - log_total_C
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            probs_CV = (logits_CV - log_total_C[:, None]).exp()
            entropy_C = log_total_C - (probs_CV * logits_CV).sum(-1)
        return logprobs_C, entropy_C, logits_CV.argmax(-1) == targets_C


def _checkpoint_layers(model: PreTrainedModel) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers checkpoints layers in training mode only; what is inside them, dropout
            # too, stays as it is.
            module.training = True
