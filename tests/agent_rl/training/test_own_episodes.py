"""The policy's own episodes with the expert's commands as targets, by hand."""

from typing import Any

import pytest

from agent_rl.config import Config, ConfigError
from agent_rl.training.own_episodes import agreement, own_samples, play_own_episodes
from envs import Task
from rollouts import StopReason, Trajectory, TrajectoryGroup
from tests.builders.episodes import trajectory, turn

ACTIONS = {"left": (7, 2), "right": (8, 9, 2)}
"""The ids of two commands, with the end token 2."""


def masked(trajectory: Trajectory, most: int | None = None) -> list[list[str]]:
    """The ids of each sample; those that are trained in brackets."""
    samples = own_samples(trajectory, ACTIONS.__getitem__, most=most)
    return [
        [
            f"[{i}]" if trained else str(i)
            for i, trained in zip(s.token_ids, s.action_mask, strict=True)
        ]
        for s in samples
    ]


def said(command: str, advice: str | None, **marks: Any) -> Any:
    return turn((1,), ACTIONS[command], text=command, command=command, advice=advice, **marks)


def test_a_turn_is_trained_where_both_agree_and_beside_the_episode_where_not() -> None:
    """The policy goes left, left, right; the expert would have gone right, left, right."""
    episode = trajectory(said("left", "right"), said("left", "left"), said("right", "right"))
    assert masked(episode) == [
        ["1", "[8]", "[9]", "[2]"],
        ["1", "7", "2", "1", "[7]", "[2]", "1", "[8]", "[9]", "[2]"],
    ]
    first, second = own_samples(episode, ACTIONS.__getitem__)
    assert (first.turns, second.turns) == (1, 2)
    assert agreement([episode]) == (3, 2)


def test_a_turn_without_advice_is_not_trained() -> None:
    episode = trajectory(said("left", None), said("left", "right"), said("left", None))
    assert masked(episode) == [["1", "7", "2", "1", "[8]", "[9]", "[2]"]]
    assert agreement([episode]) == (1, 0)
    assert own_samples(trajectory(said("left", None)), ACTIONS.__getitem__) == []


def test_nothing_is_trained_after_the_most_corrections() -> None:
    ends = (("right", "right"), ("left", "right"), ("right", "right"))
    episode = trajectory(*(said(command, advice) for command, advice in ends))
    assert masked(episode, most=1) == [
        ["1", "8", "9", "2", "1", "[8]", "[9]", "[2]"],
        ["1", "[8]", "[9]", "[2]", "1", "7", "2"],
    ]
    assert masked(episode, most=2) == masked(episode)


def test_a_new_prompt_forgets_the_turns_before() -> None:
    episode = trajectory(said("left", "left"), said("left", "right", new_prompt=True))
    assert masked(episode) == [["1", "[7]", "[2]"], ["1", "[8]", "[9]", "[2]"]]


class Playing:
    """Stands for a session: keeps what it was asked to play, and returns the same episode."""

    def __init__(self, episode: Trajectory) -> None:
        self.episode = episode
        self.calls: list[tuple[list[Task], dict[str, Any]]] = []

    def tasks(self, split: str) -> list[Task]:
        return [Task(env_id="e", split=split, family="f", id=f"t{n}") for n in range(3)]

    def play(self, tasks: list[Task], label: str, **options: Any) -> list[TrajectoryGroup]:
        self.calls.append((tasks, options))
        return [
            TrajectoryGroup(
                task=task,
                trajectories=(
                    trajectory(
                        *self.episode.turns, task=task, stop_reason=self.episode.stop_reason
                    ),
                ),
            )
            for task in tasks
        ]


def config(episodes: int) -> Config:
    sections = {"sft": {"own_episodes": episodes}, "train": {"temperature": 0.7}}
    return Config.model_validate({"run_folder": "r", "env": {"id": "e"}, **sections})


def test_each_round_plays_other_tasks_advised(capsys: pytest.CaptureFixture[str]) -> None:
    session: Any = Playing(trajectory(said("left", "right"), said("left", "left")))
    played = play_own_episodes(config(7), session, 1)
    assert sorted(sum(e.task.id == f"t{n}" for e in played) for n in range(3)) == [2, 2, 3]
    assert "own episodes, round 1: won 7 of 7; in 50.0 % of 14 turns" in capsys.readouterr().out
    play_own_episodes(config(7), session, 2)
    (_, first), (_, second) = session.calls
    assert (first["advised"], first["group_size"], first["temperature"]) == (True, 1, 0.7)
    assert first["seed"] != second["seed"]


def test_an_expert_that_advises_nothing_is_named() -> None:
    session: Any = Playing(trajectory(said("left", None), stop_reason=StopReason.MAX_TURNS))
    with pytest.raises(ConfigError, match=r"env e: its expert advised nothing in 2 episodes"):
        play_own_episodes(config(2), session, 1)
