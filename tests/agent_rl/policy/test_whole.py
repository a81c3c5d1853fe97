"""Whole weights of a plain model; test_processes.py has those that ranks share."""

from collections.abc import Iterator

import torch
from torch import Tensor

from agent_rl.policy.whole import gathered, is_first, whole, whole_weights
from tests.builders.tiny_learner import MakeModel


def test_a_tensor_that_is_whole_is_not_copied(tiny_model: MakeModel) -> None:
    model = tiny_model()
    kept = whole_weights(model.state_dict().items())
    for name, tensor in model.state_dict().items():
        assert kept[name].data_ptr() == tensor.data_ptr(), name
    assert whole(model.lm_head.weight) is model.lm_head.weight
    assert is_first()


def test_each_is_cast_and_tied_names_stay_one_tensor(tiny_model: MakeModel) -> None:
    model = tiny_model(tied=True)
    kept = whole_weights(model.state_dict(keep_vars=True).items(), torch.bfloat16)
    assert kept["lm_head.weight"] is kept["model.embed_tokens.weight"]
    assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    assert not any(tensor.requires_grad for tensor in kept.values())
    assert torch.equal(kept["lm_head.weight"], model.lm_head.weight.bfloat16())


def test_they_come_one_at_a_time_and_tied_ones_once(tiny_model: MakeModel) -> None:
    model, asked = tiny_model(tied=True), []
    named = list(model.state_dict(keep_vars=True).items())

    def listed() -> Iterator[tuple[str, Tensor]]:
        for name, tensor in named:
            asked.append(name)
            yield name, tensor

    twins: dict[str, str] = {}
    weights = gathered(listed(), twins=twins)
    assert next(weights)[0] == asked[0] == "model.embed_tokens.weight"
    assert len(asked) == 1
    assert [name for name, _ in weights] == [name for name, _ in named[1:-1]]
    assert twins == {"lm_head.weight": "model.embed_tokens.weight"}
