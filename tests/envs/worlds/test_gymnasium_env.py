"""Gymnasium environments as text environments."""

import pytest

from envs import TextEnv, check_env, make_env
from envs.worlds.gymnasium_env import readable


def begin(env: TextEnv) -> tuple[str, dict[str, object]]:
    task = env.tasks("train")[0]
    return env.reset(seed=task.seed, options={"task": task})


@pytest.mark.parametrize(
    "env_id",
    ["CliffWalking-v1", "CartPole-v1", "Blackjack-v1", "tests.builders.registered_worlds:Echo-v0"],
)
def test_they_keep_the_contract(env_id: str) -> None:
    check_env(lambda: make_env(env_id))


def test_actions_are_commands_by_name() -> None:
    env = make_env(
        "FrozenLake-v1", commands=["left", "down", "right", "up"], kwargs={"is_slippery": False}
    )
    text, info = begin(env)
    assert text.endswith("\n0")
    assert info == {"success": False, "admissible_commands": ["left", "down", "right", "up"]}
    answers = [env.step(command)[0] for command in ("right", "right", "down", "jump", "down")]
    assert answers == ["1", "2", "6", "Nothing happens.", "10"]
    env.step("down")
    assert env.step("right") == ("15", 1.0, True, False, {**info, "success": True})
    assert begin(make_env("FrozenLake-v1"))[1]["admissible_commands"] == [
        f"action {n}" for n in range(4)
    ]


def test_masked_actions_do_not_reach_the_environment() -> None:
    env = make_env("Taxi-v4")
    _, info = begin(env)
    assert info["admissible_commands"] != [f"action {n}" for n in range(6)]
    assert env.step("action 5")[:2] == ("Nothing happens.", 0.0)


def test_the_return_decides_on_success() -> None:
    easy = make_env("CartPole-v1", success_return=5)
    hard = make_env("CartPole-v1", success_return=400)
    for env, wanted in ((easy, True), (hard, False)):
        begin(env)
        while not (result := env.step("action 0"))[2]:
            assert result[4]["success"] is False
        assert result[4]["success"] is wanted


@pytest.mark.parametrize("name", ["Echo-v0", "NumpyEcho"])
def test_the_success_and_commands_of_the_environment_count(name: str) -> None:
    env = make_env(f"tests.builders.registered_worlds:{name}")
    text, info = begin(env)
    word = text.removesuffix(".").rpartition(" ")[2]
    assert info["admissible_commands"] == ["red", "green", "blue"]
    assert env.step("a" * 100)[0] == "Nothing happens.", "not in its action space"
    _, reward, terminated, _, info = env.step(word)
    assert (reward, terminated) == (-1.0, True)
    assert info["success"] is True


def test_a_time_limit_is_truncation() -> None:
    env = make_env("CliffWalking-v1", kwargs={"max_episode_steps": 3})
    begin(env)
    assert [env.step("action 0")[2:4] for _ in range(3)] == [
        (False, False),
        (False, False),
        (False, True),
    ]


def test_train_and_valid_share_no_seed() -> None:
    env = make_env("CliffWalking-v1", train=30, valid=20)
    train, valid = env.tasks("train"), env.tasks("valid")
    assert (len(train), len(valid)) == (30, 20)
    assert not {task.seed for task in train} & {task.seed for task in valid}
    with pytest.raises(ValueError, match=r"split: 'valid' has no task; raise env\.options\.valid"):
        make_env("CliffWalking-v1", valid=0).tasks("valid")


def test_a_task_of_another_environment_is_refused() -> None:
    env, other = make_env("CliffWalking-v1"), make_env("Taxi-v4")
    with pytest.raises(
        ValueError, match="is of the environment 'Taxi-v4', not of 'CliffWalking-v1'"
    ):
        env.reset(options={"task": other.tasks("train")[0]})
    with pytest.raises(ValueError, match="reset needs options"):
        env.reset()


def test_any_observation_is_written_as_text() -> None:
    import numpy

    assert readable((1, numpy.int64(2), numpy.array([0.5, 1.0]))) == "1, 2, [0.5, 1.0]"
    assert readable({"at": 3, "sees": ("a", "b")}) == "at: 3\nsees: a, b"
