from collections import Counter

import pytest
from pydantic import ValidationError

from agent_rl.config import Config, ConfigError
from agent_rl.config.sections import SftSettings
from agent_rl.training.warm_start import (
    expert_episodes,
    expert_samples,
    planned_steps,
    tasks_to_play,
)
from envs import Task
from rollouts import Trajectory
from tests.builders.episodes import trajectory, turn


def two_turns() -> Trajectory:
    return trajectory(turn((1, 17, 4), (21, 2)), turn((9, 4), (22, 23, 2)))


def test_an_epoch_trains_the_experts_tokens_and_reading_trains_all_but_the_first() -> None:
    (imitated,) = expert_samples(two_turns(), observations=False)
    assert imitated.token_ids == (1, 17, 4, 21, 2, 9, 4, 22, 23, 2)
    assert [int(bit) for bit in imitated.action_mask] == [0, 0, 0, 1, 1, 0, 0, 1, 1, 1]
    (everything,) = expert_samples(two_turns(), observations=True)
    assert [int(bit) for bit in everything.action_mask] == [0, *[1] * 9]
    assert everything.advantages == (1.0,)


def test_no_epoch_trains_the_mistakes() -> None:
    """Ids 20 and 2 are a wrong command, which 9 answers."""
    episode = trajectory(turn((1, 17), (21, 2)), turn((4, 20, 2, 9), (22, 2), mistakes=((1, 3),)))
    (everything,) = expert_samples(episode, observations=True)
    assert [int(bit) for bit in everything.action_mask] == [0, 1, 1, 1, 1, 0, 0, 1, 1, 1]
    assert everything.advantages == (1.0, 1.0)
    (imitated,) = expert_samples(episode, observations=False)
    assert [int(bit) for bit in imitated.action_mask] == [0, 0, 1, 1, 0, 0, 0, 0, 1, 1]


def test_each_part_of_an_episode_is_a_sample() -> None:
    cut = trajectory(turn((1, 17, 4), (21, 2)), turn((1, 4), (22, 2), new_prompt=True))
    for observations, mask in ((False, (0, 0, 1, 1)), (True, (0, 1, 1, 1))):
        _, second = expert_samples(cut, observations=observations)
        assert second.token_ids == (1, 4, 22, 2)
        assert second.action_mask == tuple(map(bool, mask))


def test_an_expert_writes_no_summaries() -> None:
    config = Config.model_validate({"run_folder": "r", "prompt": {"history": "summary"}})
    with pytest.raises(ConfigError, match=r"prompt\.history: summary: an expert sums nothing up"):
        expert_episodes(config, None)  # type: ignore[arg-type]


def test_more_episodes_than_tasks_play_them_again_in_equal_shares() -> None:
    tasks = [Task(env_id="e", split="train", family=f"f{i % 2}", id=f"t{i}") for i in range(4)]

    def played(episodes: int, noise: float = 0.1) -> Counter[str]:
        config = Config.model_validate(
            {"run_folder": "r", "sft": {"episodes": episodes, "noise": noise}}
        )
        return Counter(task.id for task in tasks_to_play(config, tasks))

    assert played(0) == played(4) == {f"t{i}": 1 for i in range(4)}
    assert sorted(played(10).values()) == [2, 2, 3, 3]
    assert played(8) == {f"t{i}": 2 for i in range(4)}
    assert played(4, noise=0.0).total() == 4
    with pytest.raises(ConfigError, match=r"sft\.episodes: 5, but there are 4 tasks"):
        played(5, noise=0.0)


def test_the_schedule_covers_the_rounds() -> None:
    """10 expert episodes in batches of 4 are 3 steps, in 1 + 2 epochs. The rounds have 15 and 20
    episodes, 4 and 5 steps, in 2 epochs each: 9 + 8 + 10. Without the earlier episodes each has 5,
    in 2 steps: 9 + 4 + 4.
    """
    settings = SftSettings(observation_epochs=1, epochs=2, batch_episodes=4)
    assert planned_steps(settings, 10) == 9
    rounds = settings.model_copy(update={"own_rounds": 2, "own_episodes": 5, "own_epochs": 2})
    assert planned_steps(rounds, 10) == 27
    assert planned_steps(rounds.model_copy(update={"own_replay": False}), 10) == 17


def test_a_warm_start_trains_on_the_expert_at_least_once() -> None:
    assert SftSettings(observation_epochs=1, epochs=0).epochs == 0
    with pytest.raises(ValidationError, match="epochs: 0 without observation_epochs"):
        SftSettings(epochs=0)
