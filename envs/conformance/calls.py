"""Calls into an environment that may raise, print, hang or return anything."""

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.own_thread import CallThread, HungCall
from envs.task import Task
from envs.text_env import TextEnv
from envs.validation import RESET, STEP, shape_fault

_COMPARED_INFO = ("success", "admissible_commands", "expert_command")
"""The keys of `info` that must be equal when the same commands are played again."""


class CheckStopped(Exception):
    """A check cannot continue.

    Its text is a sentence that says what is wrong with the environment, and how to mend it.
    """


class Hang(CheckStopped):
    """A call did not return in time. The environment cannot be called again."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The values that one `reset` or `step` returned. Only their number has been checked."""

    command: Any
    """The command that was sent; None for a `reset`."""
    observation: Any
    """The text that came back, if the environment is right."""
    info: Mapping[str, Any]
    """The dictionary that came back."""
    reward: Any = 0.0
    """The reward of a `step`."""
    terminated: Any = False
    """Whether the environment says that the episode is decided."""
    truncated: Any = False
    """Whether the environment says that something else ended the episode."""

    @property
    def over(self) -> bool:
        """Whether the episode has ended. A flag that cannot be read as a bool counts as ended."""
        return truthy(self.terminated, otherwise=True) or truthy(self.truncated, otherwise=True)

    @property
    def success(self) -> bool:
        """Whether `info` says that the task is done."""
        return truthy(self.info.get("success"))

    @property
    def commands(self) -> list[str] | None:
        """The texts among the admissible commands; None if `info` holds no list of them."""
        commands = self.info.get("admissible_commands")
        if not isinstance(commands, list | tuple):
            return None
        return [command for command in commands if isinstance(command, str)]

    @property
    def call(self) -> str:
        """The call as a sentence names it: `reset` or `step('look')`."""
        return "reset" if self.command is None else f"step({self.command!r})"

    def compared_values(self) -> dict[str, Any]:
        """The values that must be equal when the same commands are played again, by name.

        A value of None is left out, since it means the same as no value.
        """
        values = {
            "observation": self.observation,
            "reward": self.reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }
        for key in _COMPARED_INFO:
            values[key] = self.info.get(key)
        return {key: value for key, value in values.items() if value is not None}


@dataclass
class Caller:
    """Makes calls in a second thread and keeps what they print.

    A call that hangs cannot be stopped. It is left behind in its thread, which does not keep the
    process from ending.
    """

    seconds: float
    """How long a call may take."""
    printed: dict[str, str] = field(default_factory=dict)
    """The text on the standard output, by the label of the first call that printed it."""

    def __post_init__(self) -> None:
        self._thread = CallThread("environment under examination")

    def call(self, label: str, function: Callable[[], Any], *, seconds: float | None = None) -> Any:
        """Return what `function` returns, or raise what it raises.

        Args:
            label: names the call in sentences.
            function: the call.
            seconds: how long it may take; None for `self.seconds`.

        Raises:
            Hang: the call takes longer.
        """
        text = io.StringIO()
        try:
            # The standard output belongs to the whole process, so redirecting it here works for
            # the second thread, too.
            with contextlib.redirect_stdout(text):
                return self._thread.call(label, function, seconds=seconds or self.seconds)
        except HungCall as error:
            raise Hang(f"{error}; make sure that every wait in it has an end") from None
        finally:
            if text.getvalue():
                self.printed.setdefault(label, text.getvalue())

    def close(self) -> None:
        """Let the thread end when its call has returned."""
        self._thread.close()


@dataclass
class Subject:
    """An environment under examination. `reset` and `step` return moments."""

    env: TextEnv
    """The environment."""
    caller: Caller
    """Makes the calls."""

    def reset(self, task: Task) -> Moment:
        """Start the episode of a task.

        Raises:
            CheckStopped: `reset` raised, or returned anything but two values.
        """
        label = f"reset of task {task.id!r}"
        returned = self._try(label, lambda: self.env.reset(seed=task.seed, options={"task": task}))
        fault = shape_fault(returned, RESET)
        if fault:
            raise CheckStopped(f"{label} {fault} (it was {short_repr(returned)})")
        return Moment(command=None, observation=returned[0], info=dict(returned[1]))

    def step(self, command: str) -> Moment:
        """Send one command.

        Raises:
            CheckStopped: `step` raised, or returned anything but five values.
        """
        label = f"step({short_repr(command)})"
        returned = self._try(label, lambda: self.env.step(command))
        return moment_of(command, returned)

    def play(self, task: Task, commands: list[Any]) -> list[Moment]:
        """Reset to a task, then send the commands; returns the moments of all these calls."""
        moments = [self.reset(task)]
        for command in commands:
            moments.append(self.step(command))
        return moments

    def attempt(
        self, label: str, act: Callable[[], Any], *, seconds: float | None = None
    ) -> tuple[Any, BaseException | None]:
        """Return the value of a call and None, or None and the error that it raised.

        Raises:
            Hang: the call takes too long.
        """
        try:
            return self.caller.call(label, act, seconds=seconds), None
        except Hang:
            raise
        except (Exception, SystemExit) as error:
            return None, error

    def _try(self, label: str, act: Callable[[], Any]) -> Any:
        returned, error = self.attempt(label, act)
        if error is not None:
            raise CheckStopped(
                f"{label} raised {type(error).__name__}: {error}; in training, such an episode "
                "counts as an error of the environment and is left out"
            ) from error
        return returned


def moment_of(command: str, returned: Any) -> Moment:
    """Make a moment of what `step` returned.

    Raises:
        CheckStopped: `returned` is not a tuple of five values with a mapping at the end.
    """
    fault = shape_fault(returned, STEP)
    if fault:
        raise CheckStopped(f"step({short_repr(command)}) {fault} (it was {short_repr(returned)})")
    observation, reward, terminated, truncated, info = returned
    return Moment(
        command=command,
        observation=observation,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        info=dict(info),
    )


def truthy(value: Any, *, otherwise: bool = False) -> bool:
    """Return `bool(value)`, or `otherwise` if that raises, as it does for an array of several."""
    try:
        return bool(value)
    except Exception:
        return otherwise


def short_repr(value: Any) -> str:
    """The `repr` of a value on one line, cut off at 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
