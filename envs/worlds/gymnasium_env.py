"""Make a text environment of any gymnasium environment with texts or a few numbers as actions."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, SupportsFloat

import gymnasium
from gymnasium.spaces import Discrete, Text

from envs.options import read_as
from envs.task import Task
from envs.text_env import NOTHING_HAPPENS, TextEnv, reset_needed, task_in
from envs.validation import RESET, STEP, shape_fault, stated_success
from envs.worlds.seeded_tasks import check_counts, seeded_task, task_seeds

_LARGEST_ACTION_COUNT = 1000
"""A list of more commands than this would be of no use in a prompt."""


class GymnasiumEnv(TextEnv):
    """A gymnasium environment whose actions are texts or numbers from a small range.

    Its tasks are seeds. Each number has a name, which is its command. Commands that the environment
    does not accept, or masks out (`info["action_mask"]`), are answered with "Nothing happens." and
    do not reach it. An observation that is not a text is converted into one.

    An episode is a success if the `info` of its last step has a true `success` or `is_success`. If
    it has neither, the return decides: it must be above 0, or at least `success_return`, and the
    environment must have ended the episode itself.

    Subclasses describe a world in better words: see `introduction`, `describe` and `succeeded`.
    """

    def __init__(
        self,
        env_id: str,
        make: Callable[..., gymnasium.Env[Any, Any]],
        kwargs: Mapping[str, Any] | None = None,
        commands: Sequence[str] | None = None,
        success_return: float | None = None,
        train: int = 200,
        valid: int = 50,
    ) -> None:
        """Make the environment.

        Args:
            env_id: the id in its tasks.
            make: builds the gymnasium environment; called with `kwargs`.
            kwargs: arguments of the gymnasium environment.
            commands: the names of the actions, one for each; None for `action 0`, `action 1` ...
            success_return: the smallest return of a success; None for any return above 0.
            train: how many seeds to train on.
            valid: how many seeds to hold out.

        Raises:
            ValueError: `make` fails, the actions are of another kind, or an option does not fit.
        """
        self._id = env_id
        self._counts = check_counts(train, valid)
        self._success_return: float | None = read_as(
            float | None, "env.options: success_return", success_return
        )
        try:
            self._inner = _checked_calls(env_id, make(**dict(kwargs or {})))
        except (gymnasium.error.Error, TypeError, ValueError, ImportError) as error:
            raise ValueError(
                f"env.options: kwargs: {env_id} cannot be made with {dict(kwargs or {})}: {error}"
            ) from error
        self._names = _command_names(env_id, self._inner.action_space, commands)
        if isinstance(self._inner.action_space, Text):
            self.action_space = self._inner.action_space
        self._return, self._over = 0.0, True

    def tasks(self, split: str) -> list[Task]:
        """List the seeds of `train` or `valid` as tasks of one family."""
        return [
            seeded_task(self._id, split, seed, family=self._id)
            for seed in task_seeds(self._counts, split)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`; `seed` replaces the task's, if it is given."""
        task = task_in(options, self._id)
        # Over until the reset has succeeded: if it raises, `step` asks for another reset.
        self._over, self._return = True, 0.0
        self._prepare(task)
        observation, info = self._inner.reset(seed=task.seed if seed is None else seed)
        self._over = False
        text = f"{self.introduction()}\n{self.describe(observation)}".strip()
        return text, self._info(info, observation, success=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command.

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise reset_needed()
        if not self._takes(action):
            return NOTHING_HAPPENS, 0.0, False, False, dict(self._last_info)
        observation, reward, terminated, truncated, info = self._inner.step(self._number_of(action))
        # numpy's bools and floats become Python's. A decided episode is not truncated, even if it
        # reaches its time limit at the same step.
        self._return += float(reward)
        terminated = bool(terminated)
        truncated = bool(truncated) and not terminated
        self._over = terminated or truncated
        success = self._is_success(info, terminated) if self._over else False
        text = self.describe(observation)
        if self._over:
            text = f"{text}\n{self.conclusion(success)}".strip()
        return (
            text,
            float(reward),
            terminated,
            truncated,
            self._info(info, observation, success=success),
        )

    def close(self) -> None:
        self._inner.close()
        self._over = True

    def clone(self) -> Self:
        """Copy the environment; some gymnasium environments hold objects that cannot be copied."""
        try:
            return copy.deepcopy(self)
        except (TypeError, copy.Error) as error:
            raise NotImplementedError(f"{self._id} cannot be copied: {error}") from error

    def introduction(self) -> str:
        """The text above the first observation, which says what there is to do.

        It is empty for an environment with texts, which says so itself.
        """
        if not self._names:
            return ""
        return (
            f"This is {self._id}. Your task is to: get a high score. "
            f"Your commands: {', '.join(self._names)}."
        )

    def describe(self, observation: Any) -> str:
        """Put an observation into words."""
        return readable(observation)

    def conclusion(self, success: bool) -> str:
        """The text below the last observation; empty by default."""
        return ""

    def succeeded(self, total: SupportsFloat) -> bool:
        """Whether an episode that terminated with the return `total` was a success."""
        if self._success_return is None:
            return float(total) > 0
        return float(total) >= self._success_return

    def advice(self, observation: Any) -> str | None:
        """The expert's command after an observation; None if there is no expert."""
        return None

    def _prepare(self, task: Task) -> None:
        """Prepare the episode of a task; a subclass may replace `self._inner` here."""

    def _is_success(self, info: Mapping[str, Any], terminated: bool) -> bool:
        """Whether a finished episode was a success; at a time limit, only `info` can say so."""
        stated = stated_success(info)
        if stated is None:
            return terminated and self.succeeded(self._return)
        return stated

    def _takes(self, action: str) -> bool:
        if not self._names:
            return action in self._inner.action_space
        return action in self._last_info["admissible_commands"]

    def _number_of(self, action: str) -> Any:
        space = self._inner.action_space
        # A Discrete space may start at another number than 0.
        return space.start + self._names.index(action) if isinstance(space, Discrete) else action

    def _info(self, info: Mapping[str, Any], observation: Any, *, success: bool) -> dict[str, Any]:
        """The `info` of this environment, from the one of the gymnasium environment."""
        text_info: dict[str, Any] = {"success": success}
        inner_commands = info.get("admissible_commands")
        if self._names:
            mask = info.get("action_mask")
            text_info["admissible_commands"] = [
                name for number, name in enumerate(self._names) if mask is None or mask[number]
            ]
        elif isinstance(inner_commands, list | tuple):
            text_info["admissible_commands"] = list(inner_commands)
        advice = None if self._over else self.advice(observation)
        if advice is not None:
            text_info["expert_command"] = advice
        self._last_info = text_info
        return text_info


class _CheckedCalls(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Refuses the answers of gymnasium's older interfaces, before other wrappers unpack them."""

    def __init__(self, env: gymnasium.Env[Any, Any], env_id: str) -> None:
        super().__init__(env)
        self._id = env_id

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        answer = self.env.reset(**kwargs)
        self._check(shape_fault(answer, RESET))
        return answer

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        answer = self.env.step(action)
        self._check(shape_fault(answer, STEP))
        return answer

    def _check(self, fault: str) -> None:
        if fault:
            raise ValueError(f"{self._id} {fault}")


def _checked_calls(env_id: str, env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Put the check of the answers directly around the innermost environment."""
    outer, inner = None, env
    while isinstance(inner, gymnasium.Wrapper):
        outer, inner = inner, inner.env
    checked = _CheckedCalls(inner, env_id)
    if outer is None:
        return checked
    outer.env = checked
    return env


def readable(value: Any) -> str:
    """Write a value of any gymnasium space as text.

    An array becomes a nested list; a dictionary becomes a line for each key.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {readable(inner)}" for key, inner in value.items())
    if isinstance(value, tuple):
        return ", ".join(readable(inner) for inner in value)
    return str(value.tolist() if hasattr(value, "tolist") else value)


def _command_names(env_id: str, space: Any, commands: Sequence[str] | None) -> list[str]:
    """The name of each action of a Discrete space; none for a Text space, whose actions are texts.

    Args:
        env_id: the environment, for messages.
        space: its action space.
        commands: the names that a person chose; None for `action 0`, `action 1` ...

    Raises:
        ValueError: the space is another one, or the names do not fit it.
    """
    if isinstance(space, Text):
        if commands is not None:
            raise ValueError(
                f"env.options: commands: the actions of {env_id} are texts already; leave "
                "commands out"
            )
        return []
    if not isinstance(space, Discrete) or space.n > _LARGEST_ACTION_COUNT:
        raise ValueError(
            f"env.id: the actions of {env_id} are {space}, and a text environment needs Text, or "
            f"Discrete with up to {_LARGEST_ACTION_COUNT} of them; write a TextEnv around it "
            "(docs/environments.md)"
        )
    count = int(space.n)
    names = [f"action {number}" for number in range(count)] if commands is None else list(commands)
    unfit = [name for name in names if not isinstance(name, str) or not name.strip()]
    if unfit or isinstance(commands, str) or len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"env.options: commands: {commands!r} is not a list of {count} different names, one "
            "for each action"
        )
    return names
