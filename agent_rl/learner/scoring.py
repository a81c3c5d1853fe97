"""Log-probs of the agent's tokens under a model.

Letters at the end of a tensor's name are its shape: T positions, R rows and N agent tokens as in
`agent_rl.learner.batch`, and

    H   the model's hidden size
    V   the vocabulary
    C   the rows of one chunk; all chunks together are R
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from agent_rl.learner.attention import use_packed_attention
from agent_rl.learner.batch import Batch
from agent_rl.learner.experts import use_experts_by_rows
from agent_rl.learner.prefix_tree import Branch
from agent_rl.policy.experts import active_matrix_weights
from agent_rl.policy.loading import decoder_and_head

_ROUND = 128
"""On CPU in bfloat16, a pack is filled up to a multiple of so many positions, which nobody reads.

oneDNN compiles each product of matrices for its shape, which takes longer than the product.
"""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a batch's agent tokens, every field [N]."""

    logprobs_N: Tensor
    """The token's log-prob, in nats, at the sampler's temperature."""
    entropy_N: Tensor
    """The entropy of the distribution that the token was drawn from, in nats."""
    correct_N: Tensor
    """Whether the token is the most likely one (bool)."""


class Scorer(nn.Module):
    """Scores batches at a sampling temperature; log-probs are natural, at least float32.

    Logits are the largest tensor of a language model, and most of them are of no use here: an
    observation's tokens are not trained. So the head runs on the R rows of the agent's tokens only,
    on `logit_chunk` of them at a time.

    Autocast, if on, is for the decoder only: bfloat16 logits would be wrong by hundredths of a nat.
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
        """Prepare a model for packs.

        Args:
            model: changed in place: its attention takes packs from now on
                (`agent_rl.learner.attention`).
            temperature: the sampler's.
            autocast: whether the decoder computes in bfloat16.
            logit_chunk: the most rows whose logits exist at a time.
            activation_checkpointing: whether layers keep only their inputs, and are computed again
                for the backward pass.

        Raises:
            ValueError: the model's attention cannot be replaced.
        """
        assert temperature > 0.0, temperature
        super().__init__()
        use_packed_attention(model)
        use_experts_by_rows(model)
        # eval(): with dropout, old and new log-probs would be those of different policies.
        model.eval()  # type: ignore[no-untyped-call]
        self.model = model
        self._temperature = temperature
        self._autocast = autocast
        self._logit_chunk = logit_chunk
        if activation_checkpointing:
            _checkpoint_layers(model)

    def forward(self, batch: Batch, entropy_gradient: bool = False) -> Scores:
        """Return the batch's scores.

        Args:
            batch: on the model's device.
            entropy_gradient: whether `entropy_N` has a gradient, which costs memory.
        """
        decoder, head = decoder_and_head(self.model)
        with torch.autocast(
            batch.input_ids_T.device.type, dtype=torch.bfloat16, enabled=self._autocast
        ):
            input_ids_T, position_ids_T, branches = self._pack(batch)
            hidden_TH = decoder(
                input_ids=input_ids_T[None],
                position_ids=position_ids_T[None],
                use_cache=False,
                branches=branches,
            ).last_hidden_state[0]
        # `index_select`, not `[...]`: the backward pass of the latter adds up in threads, in the
        # order in which they come, and two updates with the same samples would differ.
        hidden_RH = hidden_TH.index_select(0, batch.predicts_R).to(head.weight.dtype)
        hidden_chunks = torch.split(hidden_RH, self._logit_chunk)
        target_chunks = torch.split(batch.target_ids_R, self._logit_chunk)
        # With a gradient, autograd would keep the logits of all chunks until the backward pass, and
        # chunks would save nothing. Checkpointing computes each chunk's logits again instead.
        recompute = torch.is_grad_enabled() and len(hidden_chunks) > 1
        parts = []
        for hidden_CH, targets_C in zip(hidden_chunks, target_chunks, strict=True):
            arguments = (head, hidden_CH, targets_C, entropy_gradient)
            if recompute:
                parts.append(checkpoint(self._head, *arguments, use_reentrant=False))
            else:
                parts.append(self._head(*arguments))
        logprobs_R, entropy_R, correct_R = (
            torch.cat(column) for column in zip(*parts, strict=True)
        )
        # From rows to agent tokens: samples with a common beginning share rows, and the backward
        # pass adds up the gradients of all tokens that share one.
        row_N = batch.row_N
        return Scores(
            logprobs_N=logprobs_R.index_select(0, row_N),
            entropy_N=entropy_R.index_select(0, row_N),
            correct_N=correct_R.index_select(0, row_N),
        )

    def matrix_weights(self) -> tuple[int, int]:
        """Return the numbers of weights that a token meets in the decoder and in the head.

        They are those of matrices. Of experts only the chosen ones count.
        """
        decoder, head = decoder_and_head(self.model)
        return active_matrix_weights(self.model, decoder), head.weight.numel()

    def _pack(self, batch: Batch) -> tuple[Tensor, Tensor, tuple[Branch, ...]]:
        """Return tokens and places, [T], and branches; on CPU in bfloat16, T is rounded up."""
        ids_T, places_T, branches = batch.input_ids_T, batch.position_ids_T, batch.tree.branches
        missing = -len(ids_T) % _ROUND if self._autocast and ids_T.is_cpu else 0
        if not missing:
            return ids_T, places_T, branches
        filling = Branch(begin=len(ids_T), end=len(ids_T) + missing)
        more = torch.arange(missing)
        return torch.cat([ids_T, more * 0]), torch.cat([places_T, more]), (*branches, filling)

    def _head(
        self, head: nn.Linear, hidden_CH: Tensor, targets_C: Tensor, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return log-prob, entropy and correctness of a chunk's rows, each [C]."""
        logits_CV = head(hidden_CH)
        logits_CV = (
            logits_CV.to(torch.promote_types(logits_CV.dtype, torch.float32)) / self._temperature
        )
        # log p(target) = logit - log sum exp: a log-softmax would be one more tensor of [C, V].
        log_total_C = logits_CV.logsumexp(-1)
        logprobs_C = logits_CV.gather(-1, targets_C[:, None]).squeeze(-1) - log_total_C
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            # -sum p log p, with log p = logit - log_total and sum p = 1.
            probs_CV = (logits_CV - log_total_C[:, None]).exp()
            entropy_C = log_total_C - (probs_CV * logits_CV).sum(-1)
        return logprobs_C, entropy_C, logits_CV.argmax(-1) == targets_C


def _checkpoint_layers(model: PreTrainedModel) -> None:
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            # transformers checkpoints a layer in training mode only. The flag is set on the layer
            # alone: modules inside it, such as dropout, stay in evaluation mode.
            module.training = True
