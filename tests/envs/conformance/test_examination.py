"""The choice of tasks and commands, and the comparison of games."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from envs.conformance.calls import Caller, CheckStopped, Moment
from envs.conformance.examination import (
    NONSENSE,
    Examination,
    choose_command,
    first_difference,
    first_of_each,
)
from envs.task import Task
from tests.builders.faulty_environments import Stairs


def tasks(split: str, families: str) -> list[Task]:
    """A task for each letter, which is its family; ids are numbered."""
    return [
        Task(env_id="e", split=split, family=family, id=f"{split}-{family}{number}")
        for number, family in enumerate(families)
    ]


def moment(**values: Any) -> Moment:
    return Moment(**{"command": "go", "observation": "a room", "info": {}} | values)


@pytest.fixture
def examination() -> Iterator[Examination]:
    caller = Caller(seconds=10)
    env = Stairs()
    examination = Examination(env=env, caller=caller, task_count=2, steps=5, seed=0)
    examination.chosen_tasks = env.tasks("train")[:2]
    yield examination
    examination.close()
    caller.close()


def test_the_first_task_of_each_family_and_split_comes_first() -> None:
    tasks_by_split = {"train": tasks("train", "aab"), "valid": tasks("valid", "ba")}
    chosen = [task.id for task in first_of_each(tasks_by_split, 5)]
    assert chosen == ["train-a0", "train-b2", "valid-b0", "valid-a1", "train-a1"]
    assert [task.id for task in first_of_each(tasks_by_split, 2)] == chosen[:2]
    assert first_of_each({}, 3) == []


def test_the_experts_command_is_followed_if_there_is_one() -> None:
    rng = random.Random(0)
    expert = moment(info={"admissible_commands": ["rest"], "expert_command": "climb"})
    assert choose_command(expert, rng, follow=True) == "climb"
    assert choose_command(expert, rng, follow=False) == "rest"
    listed = moment(info={"admissible_commands": ["rest"]})
    assert choose_command(listed, rng, follow=True) == "rest"
    assert choose_command(moment(), rng, follow=True) in ("look", "help", "yes", "no", "1", "2")


def test_the_first_difference_names_call_number_and_values() -> None:
    game = [moment(command=None), moment(reward=1.0)]
    assert first_difference(game, game) == ""
    replay = [moment(command=None), moment(reward=0.0)]
    assert first_difference(game, replay) == "step('go') (command 1) gave reward 1.0, then 0.0"
    replay = [moment(command=None), moment(reward=1.0, info={"expert_command": "up"})]
    assert first_difference(game, replay) == (
        "step('go') (command 1) gave expert_command None, then 'up'"
    )


@pytest.mark.parametrize("value", [float("nan"), np.arange(3), [np.True_, (1.5,)]])
def test_values_with_an_odd_equality_are_compared(value: Any) -> None:
    assert first_difference([moment(reward=value)], [moment(reward=value)]) == ""
    assert first_difference([moment(reward=value)], [moment(reward=2.0)]) != ""


def test_a_walk_is_played_once_and_its_second_command_means_nothing(
    examination: Examination,
) -> None:
    task = examination.tasks()[0]
    walk = examination.walk(task)
    assert examination.walk(task) is walk
    assert walk[0].command is None
    assert walk[2].command == NONSENSE[0]
    assert {moment.command for moment in walk[1:]} <= {"climb", "rest", NONSENSE[0]}


def test_a_game_is_played_to_its_end(examination: Examination) -> None:
    game = examination.play_to_the_end(examination.tasks()[0])
    assert game[-1].over
    assert game[-1].success
    assert not any(moment.over for moment in game[:-1])


def test_another_environment_has_not_been_played(examination: Examination) -> None:
    examination.walk(examination.tasks()[0])
    twin = examination.another()
    assert twin is not None
    assert twin.env is not examination.env
    assert isinstance(twin.env, Stairs)
    assert twin.env.left == 0, "as before its first reset"


def test_without_a_task_nothing_can_be_played(examination: Examination) -> None:
    examination.chosen_tasks = []
    with pytest.raises(CheckStopped, match="there is no task to play"):
        examination.tasks()
