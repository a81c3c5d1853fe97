"""One learner in two real processes against one in this one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.batch import TrainingSample
from agent_rl.learner_ranks import open_learner
from agent_rl.settings import LearnerSettings

MakeModel = Callable[..., LlamaForCausalLM]
MakeSamples = Callable[..., list[TrainingSample]]
WALL = {"seconds", "tokens_per_second", "model_flop_utilisation", "peak_memory_gib"}


def settings_of(ranks: int, micro_batch_tokens: int, **values: object) -> LearnerSettings:
    return LearnerSettings.model_validate(
        {
            "device": "cpu",
            "learning_rate": 1e-3,
            "optimizer_steps": 2,
            "ranks": ranks,
            "micro_batch_tokens": micro_batch_tokens,
            "threads": 1,
            **values,
        }
    )


def weights_of(model: LlamaForCausalLM) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("parts", [1, 2])
def test_two_ranks_learn_what_one_does(parts: int, tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    samples = random_samples(9, parts=parts)
    alone, shared = tiny_model(), tiny_model()
    one = open_learner(alone, settings_of(1, 10_000, entropy_bonus=0.01), total_steps=10)
    two = open_learner(shared, settings_of(2, 25, entropy_bonus=0.01), total_steps=10)
    try:
        for _ in range(2):
            expected, got = one.update(samples), two.update(samples)
            for name in set(expected) - WALL:
                assert got[name] == pytest.approx(expected[name], abs=1e-9), name
            torch.testing.assert_close(weights_of(shared), weights_of(alone), rtol=0, atol=1e-10)
        assert one.supervised_step(samples)["loss"] == pytest.approx(two.supervised_step(samples)["loss"], abs=1e-10)
        two.fetch_weights()
        torch.testing.assert_close(weights_of(shared), weights_of(alone), rtol=0, atol=1e-10)
    finally:
        two.close()


def test_a_learner_of_two_ranks_goes_on_in_one(
    tmp_path: Path, tiny_model: MakeModel, random_samples: MakeSamples
) -> None:
    samples = random_samples(8)
    shared, resumed = tiny_model(), tiny_model()
    two = open_learner(shared, settings_of(2, 40), total_steps=10)
    try:
        two.update(samples)
        two.save(tmp_path / "learner")
        expected = two.update(samples)
    finally:
        two.close()
    one = open_learner(resumed, settings_of(1, 10_000), total_steps=10, seed=99)
    one.load(tmp_path / "learner")
    got = one.update(samples)
    for name in set(expected) - WALL:
        assert got[name] == pytest.approx(expected[name], abs=1e-9), name
    torch.testing.assert_close(weights_of(resumed), weights_of(shared), rtol=0, atol=1e-10)


def test_an_error_in_one_rank_ends_the_call(tiny_model: MakeModel, random_samples: MakeSamples) -> None:
    samples = [
        TrainingSample(
            token_ids=s.token_ids,
            action_mask=s.action_mask,
            behavior_logprobs=tuple(float("-inf") if bit else 0.0 for bit in s.action_mask),
            advantages=(-1.0,) * s.turns,
        )
        for s in random_samples(1)
    ]
    two = open_learner(tiny_model(), settings_of(2, 40, optimizer_steps=1, old_logprobs="sampler"), total_steps=10)
    try:
        with pytest.raises(FloatingPointError, match="loss of optimizer step 1 is inf"):
            two.update(samples)
    finally:
        two.close()
