"""Calls into an environment that may raise, print, hang or return anything, and what came of them."""

import contextlib
import io
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.faults import RESET, STEP, shape_fault
from envs.task import Task
from envs.text_env import TextEnv

_COMPARED = ("success", "admissible_commands", "expert_command")


class Trouble(Exception):
    """A call that cannot be judged any further; its text is a sentence that says what is wrong and
    the way out.
    """


class Hang(Trouble):
    """A call that did not come back. The environment cannot be called again."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What `reset` (where `command` is None) or `step` returned, as it is."""

    command: Any
    observation: Any
    info: Mapping[str, Any]
    reward: Any = 0.0
    terminated: Any = False
    truncated: Any = False

    @property
    def over(self) -> bool:
        """Whether it is; so it counts too where the flags cannot say, for then there is no going
        on.
        """
        return holds(self.terminated, otherwise=True) or holds(self.truncated, otherwise=True)

    @property
    def success(self) -> bool:
        return holds(self.info.get("success"))

    @property
    def commands(self) -> list[str] | None:
        """The texts among the commands that it lists; None where it lists none."""
        listed = self.info.get("admissible_commands")
        return (
            [text for text in listed if isinstance(text, str)]
            if isinstance(listed, list | tuple)
            else None
        )

    @property
    def where(self) -> str:
        return "reset" if self.command is None else f"step({self.command!r})"

    def essence(self) -> dict[str, Any]:
        """What two plays of the same commands must have in common."""
        told = {key: self.info[key] for key in _COMPARED if key in self.info}
        ending = {"terminated": self.terminated, "truncated": self.truncated}
        essence = {"observation": self.observation, "reward": self.reward, **ending, **told}
        return {key: value for key, value in essence.items() if value is not None}


@dataclass
class Caller:
    """Makes calls in a thread of its own, so that one that hangs can be left behind; keeps what
    they print.
    """

    seconds: float
    printed: dict[str, str] = field(default_factory=dict)
    """What went to the standard output, by the call that first did it."""
    _jobs: "queue.SimpleQueue[tuple[Callable[[], Any], queue.SimpleQueue[Any]] | None]" = field(
        default_factory=queue.SimpleQueue
    )

    def __post_init__(self) -> None:
        self._thread = threading.Thread(
            target=self._work, name="environment under examination", daemon=True
        )
        self._thread.start()

    def call(self, label: str, function: Callable[[], Any], *, seconds: float | None = None) -> Any:
        """What `function` returns, or raises.

        Raises:
            Hang: it has not come back after `seconds`, or `self.seconds` where that is not given.
        """
        limit = seconds or self.seconds
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        text = io.StringIO()
        self._jobs.put((function, answer))
        try:
            with contextlib.redirect_stdout(text):
                value, error = answer.get(timeout=limit)
        except queue.Empty:
            raise Hang(
                f"{label} had not come back after {limit:g} seconds, {self._place()}; make sure that every wait in it "
                "has an end"
            ) from None
        if text.getvalue():
            self.printed.setdefault(label, text.getvalue())
        if error is not None:
            raise error
        return value

    def close(self) -> None:
        """Let the thread end, once it is through."""
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, answer = job
            try:
                answer.put((function(), None))
            except BaseException as error:  # SystemExit too: it is for the caller to judge
                answer.put((None, error))

    def _place(self) -> str:
        frame = sys._current_frames().get(self._thread.ident or 0)
        last = traceback.extract_stack(frame)[-1] if frame is not None else None
        return (
            f"and was at {last.filename}:{last.lineno} (`{last.line}`)"
            if last is not None
            else "and has ended"
        )


@dataclass
class Subject:
    """An environment under examination: `reset` and `step` return moments, and raise `Trouble`
    where they cannot.
    """

    env: TextEnv
    caller: Caller

    def reset(self, task: Task) -> Moment:
        label = f"reset of task {task.id!r}"
        returned = self._try(label, lambda: self.env.reset(seed=task.seed, options={"task": task}))
        if fault := shape_fault(returned, RESET):
            raise Trouble(f"{label} {fault} (it was {shown(returned)})")
        return Moment(command=None, observation=returned[0], info=dict(returned[1]))

    def step(self, command: str) -> Moment:
        label = f"step({shown(command)})"
        returned = self._try(label, lambda: self.env.step(command))
        return moment_of(command, returned)

    def attempt(
        self, label: str, act: Callable[[], Any], *, seconds: float | None = None
    ) -> tuple[Any, BaseException | None]:
        """What a call returned, and what it raised."""
        try:
            return self.caller.call(label, act, seconds=seconds), None
        except Hang:
            raise
        except (Exception, SystemExit) as error:
            return None, error

    def _try(self, label: str, act: Callable[[], Any]) -> Any:
        returned, error = self.attempt(label, act)
        if error is not None:
            raise Trouble(
                f"{label} raised {type(error).__name__}: {error}; in training, such an episode counts as an error of "
                "the environment and is left out"
            ) from error
        return returned


def moment_of(command: str, returned: Any) -> Moment:
    """The moment that `step` returned.

    Raises:
        Trouble: that is not five values of which the last is a mapping.
    """
    if fault := shape_fault(returned, STEP):
        raise Trouble(f"step({shown(command)}) {fault} (it was {shown(returned)})")
    observation, reward, terminated, truncated, info = returned
    return Moment(
        command=command,
        observation=observation,
        reward=reward,
        terminated=terminated,
        truncated=truncated,
        info=dict(info),
    )


def holds(value: Any, *, otherwise: bool = False) -> bool:
    """Whether a value counts as true; `otherwise` where it cannot say, as an array of several
    cannot.
    """
    try:
        return bool(value)
    except Exception:
        return otherwise


def shown(value: Any) -> str:
    """A value in a sentence, cut off where it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
