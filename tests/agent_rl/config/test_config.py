from typing import Any

import pytest
from pydantic import ValidationError

from agent_rl.config import Config


def config(**sections: dict[str, Any]) -> Config:
    return Config.model_validate({"run_folder": "r", **sections})


def test_each_optimizer_step_has_an_episode() -> None:
    two = {"tasks_per_step": 1, "num_generations": 2}
    assert config(train=two, learner={"optimizer_steps": 2}).learner.optimizer_steps == 2
    with pytest.raises(ValidationError, match="3 optimizer steps cannot share the 2 episodes"):
        config(train=two, learner={"optimizer_steps": 3})


@pytest.mark.parametrize(
    "learner", [{}, {"importance": "sequence", "importance_cap": 0}, {"old_logprobs": "sampler"}]
)
def test_weights_that_are_older_by_look_ahead_are_corrected(learner: dict[str, Any]) -> None:
    assert config(train={"look_ahead": 2}, learner=learner).train.look_ahead == 2


def test_look_ahead_needs_a_correction() -> None:
    uncorrected = {"importance": "none"}
    assert config(learner=uncorrected).learner.importance == "none"
    with pytest.raises(ValidationError, match=r"none corrects nothing.*look_ahead: 2.*remove it"):
        config(train={"look_ahead": 2}, learner=uncorrected)
    # There the ratio is against the sampler already.
    config(train={"look_ahead": 2}, learner={**uncorrected, "old_logprobs": "sampler"})


def test_muon_in_the_warm_start_needs_one_rank() -> None:
    with pytest.raises(ValidationError, match=r"0\.01 needs whole matrices.*use ranks: 1"):
        config(sft={"muon_learning_rate": 0.01}, learner={"ranks": 2})


def test_a_deterministic_run_refuses_what_the_clock_decides() -> None:
    exact = {"deterministic": True}
    assert config(serving=exact).serving.dtype == "float32"
    with pytest.raises(ValidationError, match=r"look_ahead: 1, as the clock.*use train.look_ahead"):
        config(serving=exact, train={"look_ahead": 1})
    with pytest.raises(ValidationError, match=r"not tested with learner\.ranks: 2"):
        config(serving=exact, learner={"ranks": 2})


def test_an_engine_sleeps_only_if_it_shares_a_gpu_with_a_learner_it_waits_for() -> None:
    assert config(serving={"sleep": True}).serving.sleep
    for other, message in (
        ({"train": {"look_ahead": 1}}, r"look_ahead: 1, as episodes .* use train\.look_ahead: 0"),
        ({"learner": {"ranks": 2}}, r"ranks is 2 .* use learner\.ranks: 1"),
        ({"learner": {"device": "cpu"}}, r"device cpu; use learner\.ranks: 1 on a GPU"),
    ):
        with pytest.raises(ValidationError, match=message):
            config(serving={"sleep": True}, **other)


def test_a_budget_of_thought_needs_thoughts() -> None:
    budget = {"max_thought_tokens": 256}
    with pytest.raises(
        ValidationError, match=r"256 limits thoughts, .* set prompt\.think: true, o"
    ):
        config(episode=budget)
    chosen = config(episode=budget, prompt={"format": "chat", "think": True})
    assert chosen.episode.max_sampled_tokens == 256 + 16


def test_only_an_adapter_that_is_trained_is_served_as_one() -> None:
    served = {"lora": "adapter"}
    assert config(serving=served, model={"lora": {}}).serving.lora == "adapter"
    with pytest.raises(ValidationError, match=r"needs an adapter that is trained; set model\.lora"):
        config(serving=served)
