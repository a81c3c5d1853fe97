"""The toy worlds in words: the contract, the experts, the texts, the options."""

from typing import Any

import pytest

from envs import Task, TextEnv, check_env, make_env


def follow(env: TextEnv, task: Task) -> tuple[int, dict[str, Any]]:
    """Play as the expert says: the number of commands and the last info."""
    _, info = env.reset(seed=task.seed, options={"task": task})
    for count in range(1, 400):
        _, _, terminated, truncated, info = env.step(info["expert_command"])
        if terminated or truncated:
            return count, info
    raise AssertionError("no end")


@pytest.mark.parametrize("expert", [False, True])
@pytest.mark.parametrize("env_id", ["frozen-lake", "taxi", "blackjack"])
def test_they_keep_the_contract(env_id: str, expert: bool) -> None:
    check_env(lambda: make_env(env_id, expert=expert, train=20, valid=10))


@pytest.mark.parametrize("env_id", ["frozen-lake", "taxi"])
def test_the_expert_wins_in_as_many_commands_as_the_difficulty_says(env_id: str) -> None:
    env = make_env(env_id, expert=True, train=20, valid=10)
    for task in [*env.tasks("train"), *env.tasks("valid")]:
        count, info = follow(env, task)
        assert info["success"]
        assert count == task.difficulty


def test_the_blackjack_expert_wins_two_hands_of_five() -> None:
    env = make_env("blackjack", expert=True)
    won = sum(follow(env, task)[1]["success"] for task in env.tasks("train")[:400])
    assert 0.35 < won / 400 < 0.48


def test_the_expert_crosses_most_slippery_lakes() -> None:
    env = make_env("frozen-lake", expert=True, slippery=True, train=40)
    tasks = env.tasks("train")
    assert sum(follow(env, task)[1]["success"] for task in tasks) > 20
    assert {task.difficulty for task in tasks} == {0}


def test_no_lake_and_no_ride_is_held_out_and_trained_on() -> None:
    lake = make_env("frozen-lake")
    texts = {
        split: {lake.reset(seed=task.seed, options={"task": task})[0] for task in lake.tasks(split)}
        for split in lake.splits
    }
    assert not texts["train"] & texts["valid"]
    taxi = make_env("taxi")
    rides = {split: {task.id for task in taxi.tasks(split)} for split in taxi.splits}
    assert len(rides["train"] | rides["valid"]) == 300
    assert {task.family for task in taxi.tasks("valid")} == {
        "to red",
        "to green",
        "to yellow",
        "to blue",
    }


def test_a_lake_in_words() -> None:
    env = make_env("frozen-lake")
    task = env.tasks("train")[0]
    text, info = env.reset(seed=task.seed, options={"task": task})
    assert text == (
        "You are on a frozen lake of 4 rows and 4 columns.\n"
        "There are holes at: row 1, column 2; row 1, column 4; row 2, column 3.\n"
        "Your task is to: walk to row 4, column 4 without falling into a hole.\n"
        "You are at row 1, column 1. "
        "You see left: the shore, down: ice, right: a hole, up: the shore."
    )
    assert info["admissible_commands"] == ["left", "down", "right", "up"]
    text, reward, terminated, truncated, info = env.step("right")
    assert text == "You are at row 1, column 2. You fall into the hole."
    assert (reward, terminated, truncated, info["success"]) == (0.0, True, False, False)


def test_a_ride_in_words() -> None:
    env = make_env("taxi", expert=True)
    task = next(task for task in env.tasks("train") if task.id.startswith("red-to-green"))
    text, info = env.reset(seed=task.seed, options={"task": task})
    assert "Your task is to: pick up the passenger and drop them off where they want to go." in text
    assert "The passenger waits at red and wants to go to green." in text
    assert "drop off" not in info["admissible_commands"]
    assert env.step("drop off")[:2] == ("Nothing happens.", 0.0)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("frozen-lake", {"size": 2}, "size: 2 is not a whole number from 3 to 20"),
        ("frozen-lake", {"frozen": 1.5}, "frozen: 1.5 is not a share"),
        ("taxi", {"valid": 61}, "valid: 61 is not a whole number from 0 to 60"),
        ("blackjack", {"train": "many"}, "train: 'many' is not a whole number"),
    ],
)
def test_options_out_of_range(env_id: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id, **options)
