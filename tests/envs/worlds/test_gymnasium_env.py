"""Gymnasium environments as text environments."""

from typing import Any

import gymnasium
import numpy
import pytest

from envs import TextEnv, check_env, make_env
from envs.worlds.gymnasium_env import GymnasiumEnv, readable


class Coin(gymnasium.Env[Any, Any]):
    """Any action ends the episode with reward 1; a test may set what reset and step return."""

    observation_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, first: Any = (0, {}), last: Any = (0, 1.0, True, False, {})) -> None:
        self.first, self.last = first, last

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.first

    def step(self, action: Any) -> Any:
        return self.last


gymnasium.register("TestCoin-v0", entry_point=f"{__name__}:Coin", max_episode_steps=5)


def coin(registered: bool, **answers: Any) -> TextEnv:
    """A coin behind gymnasium's own wrappers, or without any."""
    if registered:
        return make_env("TestCoin-v0", kwargs=answers)
    return GymnasiumEnv("coin", Coin, answers)


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


@pytest.mark.parametrize("answer", [numpy.zeros(4), "a room", 3, ("a", "b"), ("a", 0.0, False, {})])
@pytest.mark.parametrize("registered", [True, False])
def test_an_old_reset_is_refused(answer: Any, registered: bool) -> None:
    with pytest.raises(
        ValueError,
        match=r"(reset has to return a tuple of two: \(observation, info\)|as info, .* a dict)",
    ):
        begin(coin(registered, first=answer))


@pytest.mark.parametrize("answer", [numpy.zeros(4), "a room", 3, ("a", 0.0, False, {})])
@pytest.mark.parametrize("registered", [True, False])
def test_an_old_step_is_refused(answer: Any, registered: bool) -> None:
    env = coin(registered, last=answer)
    begin(env)
    with pytest.raises(
        ValueError,
        match=r"step has to return a tuple of five: "
        r"\(observation, reward, terminated, truncated, info\)",
    ):
        env.step("action 0")


@pytest.mark.parametrize(
    ("info", "terminated", "success"),
    [
        ({"success": 1}, True, True),
        ({"success": 0}, True, False),
        ({"success": numpy.int64(1)}, True, True),
        ({"success": numpy.array(0.0)}, True, False),
        ({"is_success": True}, True, True),
        ({"is_success": 0.0}, True, False),
        ({"is_success": 1.0}, False, True),
        ({"success": None}, True, True),
        ({}, True, True),
        ({}, False, False),
    ],
)
def test_success_is_read_however_it_is_said(
    info: dict[str, Any], terminated: bool, success: bool
) -> None:
    # Without a word about success, the return of 1 decides.
    env = coin(registered=False, last=(0, 1.0, terminated, not terminated, info))
    begin(env)
    assert env.step("action 0")[4]["success"] is success


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"success": "yes"}, r"info\['success'\] is 'yes', which is no bool"),
        ({"is_success": 0.5}, r"info\['is_success'\] is 0.5"),
        ({"success": 1, "is_success": 0}, "differ; return one of them"),
    ],
)
def test_another_success_is_refused(info: dict[str, Any], message: str) -> None:
    env = coin(registered=False, last=(0, 1.0, True, False, info))
    begin(env)
    with pytest.raises(ValueError, match=message):
        env.step("action 0")


def test_a_return_of_success_in_a_text_is_read() -> None:
    assert begin(coin(registered=False))[1]["success"] is False
    env = GymnasiumEnv("coin", Coin, success_return="2e0")  # type: ignore[arg-type]
    begin(env)
    assert env.step("action 1")[4]["success"] is False
    with pytest.raises(ValueError, match="success_return: 'abc' is not a number"):
        GymnasiumEnv("coin", Coin, success_return="abc")  # type: ignore[arg-type]
