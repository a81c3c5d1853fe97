"""The contract of a text environment: a `gymnasium.Env` with strings as observation and action."""

import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

from envs.task import Task

TEXT_CHARSET = string.printable
"""The characters of observations and commands, unless an environment has wider spaces."""
NOTHING_HAPPENS = "Nothing happens."
"""The usual answer to a command that the game does not accept now."""


@dataclass(frozen=True, kw_only=True)
class NamedObject:
    """The piece of furniture, or the thing, that a command goes for."""

    name: str
    """Its name in the command, such as "drawer 2"."""
    is_furniture: bool
    """Whether it is furniture; else a thing."""
    is_known: bool
    """Whether a reader of the texts before the command knows that it is there."""
    other_name: str = ""
    """Another name that such an object could have, and that no text before has; empty if there is
    none. A probe puts it in the place of `name` (`agent-rl bench reading`)."""


ReadObject = Callable[[str, Sequence[str]], NamedObject | None]
"""Reads the object that a command names, as `TextEnv.object_named` does."""


class TextEnv(gymnasium.Env[str, str], ABC):
    """Base class of text environments.

    `reset(seed=task.seed, options={"task": task})` starts the episode of a task. The first
    observation says what there is to do. `step(command)` answers every string; a command that is
    not admissible does not end the episode. `terminated` means that the episode is decided,
    `truncated` that something else cut it short.

    Both return an `info` with

    - `success` (bool): whether the task is done;
    - `admissible_commands` (list of str, optional): the commands that the environment would accept
      now;
    - `expert_command` (str, optional): the command of the environment's expert, if the environment
      was asked for one.

    All texts must be writable as UTF-8. `envs/validation.py` lists the harmless deviations that are
    accepted, too.
    """

    observation_space = Text(min_length=0, max_length=8192, charset=TEXT_CHARSET)
    action_space = Text(min_length=0, max_length=512, charset=TEXT_CHARSET)

    splits: tuple[str, ...] = ("train", "valid")
    """The splits that `tasks` accepts; the first one must have tasks."""

    @abstractmethod
    def tasks(self, split: str) -> list[Task]:
        """List the tasks of a split, always in the same order.

        Raises:
            ValueError: the split is unknown, or has no task.
        """

    def words(self) -> list[str]:
        """List names that occur in the texts; none by default.

        A tokenizer that is trained for this environment makes one token of each.
        """
        return []

    @classmethod
    def object_named(cls, command: str, texts: Sequence[str]) -> NamedObject | None:
        """Read what a command goes for, and whether the texts before it tell of that.

        An evaluation counts with it how often a policy goes for what it cannot have read. It needs
        no episode under way. By default it reads nothing.

        Args:
            command: as the policy wrote it.
            texts: the observations before it, from the episode's first on.

        Returns:
            None if the command goes for nothing, or nobody can tell.
        """
        return None

    @abstractmethod
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`, a `Task` of this environment."""

    @abstractmethod
    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command: observation, reward, terminated, truncated, info."""

    def clone(self) -> Self:
        """Copy the environment in the state of its episode; neither copy affects the other.

        Raises:
            NotImplementedError: the environment cannot be copied.
        """
        return deepcopy(self)


class EnvWrapper(TextEnv):
    """An environment around another one: everything is passed on to `env`.

    A subclass overrides what it changes, for example `step`, and calls `super().step(action)`.
    """

    def __init__(self, env: TextEnv) -> None:
        """Wrap an environment.

        Args:
            env: the environment that plays; it keeps its tasks, words, splits and spaces.
        """
        self.env = env
        self.splits = env.splits
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def tasks(self, split: str) -> list[Task]:
        return self.env.tasks(split)

    def words(self) -> list[str]:
        return self.env.words()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return self.env.step(action)

    def close(self) -> None:
        self.env.close()

    def clone(self) -> Self:
        # The memo makes deepcopy use the environment's own clone, which may be faster than a deep
        # copy, or refuse one.
        return deepcopy(self, {id(self.env): self.env.clone()})


def task_in(options: dict[str, Any] | None, env_id: str) -> Task:
    """Return the task in the `options` of a `reset`.

    Raises:
        ValueError: `options` holds no task, or the task belongs to another environment.
    """
    task = (options or {}).get("task")
    if not isinstance(task, Task):
        raise ValueError(
            f'reset needs options={{"task": Task(...)}}, one of tasks(split); got {task!r}'
        )
    if task.env_id != env_id:
        raise ValueError(
            f"task: {task.id!r} is of the environment {task.env_id!r}, not of {env_id!r}"
        )
    return task


def reset_needed() -> ResetNeeded:
    """Return the error that `step` raises if no episode is under way."""
    return ResetNeeded(
        "the episode is over or has not begun: call reset(options={'task': task}) first"
    )
