"""What the contract's module shares: the wrapper, and the checks of `reset` and `step`."""

from typing import Any, Self

import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

from envs.task import Task
from envs.text_env import EnvWrapper, TextEnv, reset_needed, task_in

TASK = Task(env_id="echo", split="test", family="echo", id="echo-0")


class Echo(TextEnv):
    """Answers each command with itself, and the command "end" ends the episode."""

    splits = ("test",)
    action_space = Text(min_length=1, max_length=3)

    def __init__(self) -> None:
        self.closed, self.is_clone = False, False

    def tasks(self, split: str) -> list[Task]:
        return [TASK] if split == "test" else []

    def words(self) -> list[str]:
        return ["echo"]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return f"seed {seed}, options {options}", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return action, 0.5, action == "end", False, {"success": action == "end"}

    def close(self) -> None:
        self.closed = True

    def clone(self) -> Self:
        twin = super().clone()
        twin.is_clone = True
        return twin


def test_a_wrapper_passes_everything_on() -> None:
    inner = Echo()
    wrapper = EnvWrapper(inner)
    assert wrapper.splits == ("test",)
    assert wrapper.action_space is inner.action_space
    assert wrapper.observation_space is inner.observation_space
    assert wrapper.tasks("test") == [TASK]
    assert wrapper.words() == ["echo"]
    assert wrapper.reset(seed=3, options={"task": 1}) == (
        "seed 3, options {'task': 1}",
        {"success": False},
    )
    assert wrapper.step("end") == ("end", 0.5, True, False, {"success": True})
    wrapper.close()
    assert inner.closed


def test_a_subclass_changes_what_it_overrides_only() -> None:
    class Loud(EnvWrapper):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            observation, *rest = super().step(action)
            return observation.upper(), *rest  # type: ignore[return-value]

    wrapper = Loud(Echo())
    assert wrapper.step("hi")[:2] == ("HI", 0.5)
    assert wrapper.reset()[0] == "seed None, options None"


def test_a_cloned_wrapper_has_a_clone_inside_and_a_copy_of_its_state() -> None:
    class Counting(EnvWrapper):
        def __init__(self, env: TextEnv) -> None:
            super().__init__(env)
            self.commands: list[str] = []

    wrapper = Counting(Echo())
    twin = wrapper.clone()
    twin.commands.append("hi")
    assert wrapper.commands == []
    twin.close()
    assert isinstance(twin.env, Echo)
    assert twin.env.is_clone
    assert twin.env.closed
    assert isinstance(wrapper.env, Echo)
    assert not wrapper.env.closed


def test_task_in_returns_the_task_of_the_options() -> None:
    assert task_in({"task": TASK, "other": 1}, "echo") is TASK


@pytest.mark.parametrize("options", [None, {}, {"task": "echo-0"}])
def test_task_in_refuses_options_without_a_task(options: dict[str, Any] | None) -> None:
    with pytest.raises(ValueError, match=r'reset needs options=\{"task": Task'):
        task_in(options, "echo")


def test_task_in_refuses_a_task_of_another_environment() -> None:
    with pytest.raises(ValueError, match="'echo-0' is of the environment 'echo', not of 'taxi'"):
        task_in({"task": TASK}, "taxi")


def test_reset_needed_says_how_to_begin() -> None:
    error = reset_needed()
    assert isinstance(error, ResetNeeded)
    assert "call reset(options={'task': task}) first" in str(error)
