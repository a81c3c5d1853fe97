from typing import Any

import pytest

from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.config import Config, ConfigError


def config_of(**sections: Any) -> Config:
    values = {"train": {"tasks_per_step": 2, "num_generations": 3}, **sections}
    return Config.model_validate({"run_folder": "r", **values})


EPISODE = {"max_turns": 10, "max_action_tokens": 20}
THOUGHTLESS = {"format": "chat", "think": True, "history_thoughts": False}


def test_a_load_by_hand() -> None:
    load = StepLoad.of(config_of(episode=EPISODE), 4096, observation_tokens=30)
    assert (load.episodes, load.turns, load.turn_tokens) == (6, 10, 50)
    assert (load.samples, load.sample_tokens, load.tokens) == (6, 500, 3000)
    assert (load.agent_tokens, load.prefilled_tokens) == (1200, 1800)
    given = StepLoad.of(config_of(episode=EPISODE), 4096, turns=4, action_tokens=5)
    assert (given.turns, given.observation_tokens, given.action_tokens) == (4, 100, 5)


def test_an_episode_ends_where_the_context_does() -> None:
    load = StepLoad.of(config_of(episode=EPISODE), 4096, observation_tokens=1000)
    assert (load.turns, load.sample_tokens) == (4, 4080)
    served = config_of(episode=EPISODE, serving={"context_length": 2048})
    assert StepLoad.of(served, 4096, observation_tokens=1000).turns == 2
    with pytest.raises(ConfigError, match=r"a turn of 3000 \+ 20 tokens does not fit .* of 2048"):
        StepLoad.of(served, 4096, observation_tokens=3000)


def test_each_turn_of_a_window_is_a_sample_with_a_prompt_of_its_own() -> None:
    config = config_of(episode=EPISODE, prompt={"history": "window", "window": 2})
    load = StepLoad.of(config, 4096, observation_tokens=30)
    # Two turns before the present one; the last 20 tokens of each sample are sampled.
    assert (load.samples, load.sample_tokens, load.agent_tokens) == (60, 150, 1200)
    assert load.prefilled_tokens == 60 * 130
    # The context holds a window, and not the episode.
    assert StepLoad.of(config, 200, observation_tokens=30).turns == 10


@pytest.mark.parametrize("prompt", [{"history": "observations"}, THOUGHTLESS])
def test_prompts_that_are_new_and_grow_end_where_the_context_does(prompt: dict[str, Any]) -> None:
    config = config_of(episode=EPISODE, prompt=prompt)
    load = StepLoad.of(config, 4096, observation_tokens=30)
    assert (load.turns, load.samples, load.sample_tokens) == (10, 60, 500)
    load = StepLoad.of(config, 200, observation_tokens=30)
    assert (load.turns, load.samples, load.sample_tokens) == (4, 24, 200)
