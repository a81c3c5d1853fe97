"""A tiny policy and a learner of it, with plain computations to compare them with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample
from tests.builders.samples import VOCABULARY

MakeModel = Callable[..., LlamaForCausalLM]
MakeSamples = Callable[..., list[TrainingSample]]
WALL = {"seconds", "tokens_per_second", "model_flop_utilisation", "peak_memory_gib"}
"""Metrics of time and memory, which differ from run to run."""
OF_THE_SPLIT = {"shared_prefixes"}
"""Metrics that depend on the split into micro-batches."""
_SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.5,
}


def make_tiny_model(
    *, tied: bool = False, dtype: torch.dtype = torch.float64, vocab_size: int = VOCABULARY
) -> LlamaForCausalLM:
    """Return a model with the same random weights each time, large enough to tell tokens apart."""
    torch.manual_seed(0)
    config = LlamaConfig(**_SIZES, vocab_size=vocab_size, tie_word_embeddings=tied)
    model: LlamaForCausalLM = with_exact_norms(
        LlamaForCausalLM(config).to(dtype)  # type: ignore[no-untyped-call, arg-type]
    )
    return model


def make_tiny_experts(
    *, experts: int = 3, chosen: int = 2, dtype: torch.dtype = torch.float64, **config: Any
) -> MixtralForCausalLM:
    """Return the same model, but with experts."""
    torch.manual_seed(0)
    sizes = _SIZES | {"num_local_experts": experts, "num_experts_per_tok": chosen} | config
    of_sizes = MixtralConfig(vocab_size=VOCABULARY, **sizes)
    model: MixtralForCausalLM = with_exact_norms(
        MixtralForCausalLM(of_sizes).to(dtype)  # type: ignore[no-untyped-call, arg-type]
    )
    return model


def with_exact_norms(model: Any) -> Any:
    """Return the model with norms that stay in its dtype.

    Those of transformers round to float32, also in a model of float64. If samples share a token,
    their gradients are added before a norm instead of after it: the rounding would make the
    weights' gradients differ by 1e-9.
    """
    for part in [model.model, *model.model.layers]:
        for name, norm in [
            (name, norm) for name, norm in part.named_children() if name.endswith("norm")
        ]:
            same = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
            same.weight = norm.weight
            setattr(part, name, same)
    return model


def learner_of(model: PreTrainedModel, **settings: Any) -> Learner:
    """Return a learner on CPU with a high rate and no clipping, for 100 optimizer steps."""
    values = {"device": "cpu", "learning_rate": 1e-2, "max_grad_norm": 1e9, **settings}
    return Learner(model, LearnerSettings.model_validate(values), LearnerContext(total_steps=100))


def plain_logprobs(
    model: PreTrainedModel, sample: TrainingSample, temperature: float = 1.0
) -> Tensor:
    """Return log-probs of a sample's targets, [T], from all logits of an unpadded pass."""
    ids = torch.tensor([sample.token_ids])
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    call: Any = model
    logits = call(input_ids=ids).logits[0, :-1] / temperature
    model.set_attn_implementation(before)
    return torch.log_softmax(logits, -1).gather(-1, ids[0, 1:, None]).squeeze(-1)


def weights_of(model: PreTrainedModel) -> Tensor:
    """Return all weights in one row."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def gradient_of_one_step(
    monkeypatch: pytest.MonkeyPatch, learner: Learner, train: Callable[[], Any]
) -> Tensor:
    """Return the gradient that the optimizer gets while `train` takes one step."""
    seen: list[Tensor] = []
    monkeypatch.setattr(
        learner._optimizer.inner,
        "step",
        lambda: seen.append(
            torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])
        ),
    )
    train()
    (gradient,) = seen
    return gradient
