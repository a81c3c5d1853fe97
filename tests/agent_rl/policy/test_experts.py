from typing import Any

import torch

from agent_rl.config.model import LoraSettings
from agent_rl.policy.experts import (
    active_matrix_weights,
    active_parameters,
    has_experts,
    in_files,
    model_size,
)
from agent_rl.policy.loading import decoder_and_head
from agent_rl.policy.lora import with_lora
from tests.builders.tiny_learner import MakeModel, make_tiny_experts

ATTENTION = 2 * 16 * 16 + 2 * 8 * 16
EXPERT = 3 * 16 * 24
"""Weights of a layer's attention, and of one expert's three matrices."""


def test_a_token_goes_through_the_chosen_experts_only() -> None:
    model = make_tiny_experts(experts=5, chosen=2)
    router = 5 * 16
    decoder, head = decoder_and_head(model)
    assert active_matrix_weights(model, decoder) == 2 * (ATTENTION + router + 2 * EXPERT)
    # An embedding and a head, two norms in each layer and one behind them.
    others = 2 * head.weight.numel() + 2 * (ATTENTION + router) + 5 * 16
    assert sum(weight.numel() for weight in model.parameters()) == others + 2 * 5 * EXPERT
    assert active_parameters(model) == others + 2 * 2 * EXPERT


def test_without_experts_all_is_active(tiny_model: MakeModel) -> None:
    model = tiny_model()
    decoder, _ = decoder_and_head(model)
    assert not has_experts(model)
    assert active_matrix_weights(model, decoder) == 2 * (ATTENTION + EXPERT)
    assert active_parameters(model) == sum(weight.numel() for weight in model.parameters())
    assert model_size(model) == "0.00M parameters"


def test_the_size_says_how_much_is_active() -> None:
    assert model_size(make_tiny_experts(experts=8)) == "0.02M parameters, 0.01M of them active"


def test_an_adapter_counts_beside_its_layer(tiny_model: MakeModel) -> None:
    for model in (tiny_model(), make_tiny_experts()):
        before = active_matrix_weights(model, model.base_model)
        adapted = with_lora(
            model, LoraSettings(rank=2, target_modules=("q_proj",)), source="here", seed=0
        )
        decoder, _ = decoder_and_head(adapted)
        # A is [2, 16] and B [16, 2], in two layers.
        assert active_matrix_weights(adapted, decoder) == before + 2 * 2 * 2 * 16


def test_in_files_each_expert_has_its_own_matrices() -> None:
    model: Any = make_tiny_experts(experts=3)
    weights = in_files(model, model.state_dict())
    stack = model.model.layers[1].mlp.experts
    where = "model.layers.1.block_sparse_moe"
    assert torch.equal(weights[f"{where}.experts.2.w1.weight"], stack.gate_up_proj[2, :24])
    assert torch.equal(weights[f"{where}.experts.2.w3.weight"], stack.gate_up_proj[2, 24:])
    assert torch.equal(weights[f"{where}.experts.0.w2.weight"], stack.down_proj[0])
    assert torch.equal(weights[f"{where}.gate.weight"], model.model.layers[1].mlp.gate.weight)
    assert sum(tensor.numel() for tensor in weights.values()) == sum(
        tensor.numel() for tensor in model.state_dict().values()
    )


def test_without_experts_files_have_the_models_names(tiny_model: MakeModel) -> None:
    weights = tiny_model().state_dict()
    assert in_files(tiny_model(), weights) is weights
    # A process that shares the model and does not write has no weights.
    assert in_files(make_tiny_experts(), {}) == {}
