"""Any gymnasium environment with text or a few actions, as a text environment."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, SupportsFloat

import gymnasium
from gymnasium.spaces import Discrete, Text

from envs.faults import is_bool
from envs.task import Task
from envs.text_env import NOTHING_HAPPENS, TextEnv, reset_needed, task_in
from envs.worlds.seeded_tasks import check_counts, seeded_task, task_seeds

_MOST_COMMANDS = 1000


class GymnasiumEnv(TextEnv):
    """A gymnasium environment whose actions are texts or numbers from a small range.

    Its tasks are seeds. A number's command is its name; commands that the environment does not
    take, or masks out (`info["action_mask"]`), are answered with "Nothing happens." and do not
    reach it. An observation that is no text is written as one. An episode is a success where the
    environment's `info` says so (`success`, a bool); where it says nothing, if it terminates with a
    return above 0, or of at least `success_return`.

    Subclasses put a world into better words: see `introduction`, `describe` and `succeeded`.
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
            env_id: what its tasks call it.
            make: builds it; called with `kwargs`.
            kwargs: what to hand on to the environment.
            commands: the names of the actions, one for each; `action 0`, `action 1` and so on where
            not given.
            success_return: the return that is a success; any above 0 where not given.
            train: how many seeds to train on.
            valid: how many seeds to hold out.

        Raises:
            ValueError: it cannot be made so, its actions are of another kind, or an option does not
            fit.
        """
        self._id = env_id
        self._counts = check_counts(train, valid)
        self._success_return = success_return
        try:
            self._inner = make(**dict(kwargs or {}))
        except (gymnasium.error.Error, TypeError, ValueError, ImportError) as error:
            raise ValueError(
                f"env.options: kwargs: {env_id} cannot be made with {dict(kwargs or {})}: {error}"
            ) from error
        self._names = _command_names(env_id, self._inner.action_space, commands)
        if isinstance(self._inner.action_space, Text):
            self.action_space = self._inner.action_space
        self._return, self._over = 0.0, True

    def tasks(self, split: str) -> list[Task]:
        """The seeds of `train` or `valid`, as tasks of one family."""
        return [
            seeded_task(self._id, split, seed, family=self._id)
            for seed in task_seeds(self._counts, split)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`, from its seed or from `seed` where that is given."""
        task = task_in(options, self._id)
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
        self._return += float(reward)
        terminated = bool(terminated)
        truncated = bool(truncated) and not terminated
        self._over = terminated or truncated
        success = self._is_success(info, terminated)
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
        try:
            return copy.deepcopy(self)
        except (TypeError, copy.Error) as error:
            raise NotImplementedError(f"{self._id} cannot be copied: {error}") from error

    def introduction(self) -> str:
        """What stands above the first observation: what there is to do. A text world says so
        itself.
        """
        if not self._names:
            return ""
        return f"This is {self._id}. Your task is to: get a high score. Your commands: {', '.join(self._names)}."

    def describe(self, observation: Any) -> str:
        """An observation in words."""
        return readable(observation)

    def conclusion(self, success: bool) -> str:
        """What stands below the last observation."""
        return ""

    def succeeded(self, total: SupportsFloat) -> bool:
        """Whether an episode that terminated with the return `total` was a success."""
        least = self._success_return
        return float(total) > 0 if least is None else float(total) >= least

    def advice(self, observation: Any) -> str | None:
        """What an expert would do now; None where there is none."""
        return None

    def _prepare(self, task: Task) -> None:
        """Called before the episode of a task; a subclass may put another environment into
        `self._inner`.
        """

    def _is_success(self, info: Mapping[str, Any], terminated: bool) -> bool:
        own = info.get("success")
        return terminated and (bool(own) if is_bool(own) else self.succeeded(self._return))

    def _takes(self, action: str) -> bool:
        if not self._names:
            return action in self._inner.action_space
        return action in self._last_info["admissible_commands"]

    def _number_of(self, action: str) -> Any:
        space = self._inner.action_space
        return space.start + self._names.index(action) if isinstance(space, Discrete) else action

    def _info(self, info: Mapping[str, Any], observation: Any, *, success: bool) -> dict[str, Any]:
        told: dict[str, Any] = {"success": success}
        listed = info.get("admissible_commands")
        if self._names:
            mask = info.get("action_mask")
            told["admissible_commands"] = [
                name for number, name in enumerate(self._names) if mask is None or mask[number]
            ]
        elif isinstance(listed, list | tuple):
            told["admissible_commands"] = list(listed)
        advice = None if self._over else self.advice(observation)
        if advice is not None:
            told["expert_command"] = advice
        self._last_info = told
        return told


def readable(value: Any) -> str:
    """A value of any gymnasium space as text; arrays as nested lists, dictionaries a line per key."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {readable(inner)}" for key, inner in value.items())
    if isinstance(value, tuple):
        return ", ".join(readable(inner) for inner in value)
    return str(value.tolist() if hasattr(value, "tolist") else value)


def _command_names(env_id: str, space: Any, commands: Sequence[str] | None) -> list[str]:
    """A name for each number of a Discrete space; none for a Text space, whose actions are their
    own names.
    """
    if isinstance(space, Text):
        if commands is not None:
            raise ValueError(
                f"env.options: commands: the actions of {env_id} are texts already; leave commands out"
            )
        return []
    if not isinstance(space, Discrete) or space.n > _MOST_COMMANDS:
        raise ValueError(
            f"env.id: the actions of {env_id} are {space}, and a text environment needs Text, or Discrete with up to "
            f"{_MOST_COMMANDS} of them; wrap it in a TextEnv of your own (docs/environments.md)"
        )
    count = int(space.n)
    names = [f"action {number}" for number in range(count)] if commands is None else list(commands)
    unfit = [name for name in names if not isinstance(name, str) or not name.strip()]
    if unfit or isinstance(commands, str) or len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"env.options: commands: {commands!r} is not a list of {count} different names, one per action"
        )
    return names
