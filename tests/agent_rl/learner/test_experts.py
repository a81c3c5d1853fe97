"""Experts by rows against transformers' own implementation, forward and backward."""

from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.learner.experts import NAME, use_experts_by_rows
from tests.builders.tiny_learner import (
    MakeModel,
    MakeSamples,
    gradient_of_one_step,
    learner_of,
    make_tiny_experts,
    plain_logprobs,
)


def outputs(implementation: str, chosen: int, tokens: int = 40) -> list[Tensor]:
    """The output of a layer's experts, and the gradients of all that it comes from."""
    model: Any = make_tiny_experts(experts=4, chosen=chosen)
    use_experts_by_rows(model)
    model.set_experts_implementation(implementation)
    experts = model.model.layers[0].mlp.experts
    torch.manual_seed(1)
    hidden = torch.randn(tokens, 16, dtype=torch.float64, requires_grad=True)
    scores, indices = torch.randn(tokens, 4, dtype=torch.float64).topk(chosen)
    weights = scores.softmax(-1).detach().requires_grad_()
    out = experts(hidden, indices, weights)
    out.sin().sum().backward()
    gradients = (hidden.grad, weights.grad, experts.gate_up_proj.grad, experts.down_proj.grad)
    return [out.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_output_and_gradients_are_those_of_transformers(chosen: int) -> None:
    ours, theirs = outputs(NAME, chosen), outputs("eager", chosen)
    assert len(ours) == len(theirs) == 5
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_an_expert_without_tokens_has_a_gradient_of_zeros() -> None:
    gradient = outputs(NAME, 2, tokens=1)[3]
    used = gradient.abs().sum((1, 2)) > 0
    assert int(used.sum()) == 2


def test_packed_samples_have_the_log_probs_of_each_alone(random_samples: MakeSamples) -> None:
    model = make_tiny_experts()
    samples = random_samples(5)
    found = learner_of(model).logprobs(samples)
    assert model.config._experts_implementation == NAME
    model.set_experts_implementation("eager")
    expected = torch.cat(
        [plain_logprobs(model, sample)[torch.tensor(sample.action_mask[1:])] for sample in samples]
    )
    torch.testing.assert_close(found, expected.detach(), atol=1e-6, rtol=0, check_dtype=False)


def test_the_gradient_is_the_same_for_any_split(
    random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = random_samples(6)

    def gradient(most: int) -> Tensor:
        learner = learner_of(make_tiny_experts(), micro_batch_tokens=most, optimizer_steps=1)
        return gradient_of_one_step(monkeypatch, learner, lambda: learner.update(samples))

    whole = gradient(4096)
    assert float(whole.norm()) > 0.05
    # The router's softmax is in float32, whatever the model's dtype is.
    torch.testing.assert_close(gradient(16), whole, atol=1e-6, rtol=0)


def test_the_router_learns_with_two_experts_a_token() -> None:
    def gradient(chosen: int) -> float:
        model: Any = make_tiny_experts(chosen=chosen)
        use_experts_by_rows(model)
        model(input_ids=torch.arange(30)[None]).logits.sin().sum().backward()
        return float(model.model.layers[0].mlp.gate.weight.grad.abs().max())

    assert gradient(2) > 1e-2
    # The reason why `model.experts_per_token` is at least 2.
    assert gradient(1) < 1e-5


def test_a_model_without_experts_stays(tiny_model: MakeModel) -> None:
    model = tiny_model()
    use_experts_by_rows(model)
    assert model.config._experts_implementation != NAME
