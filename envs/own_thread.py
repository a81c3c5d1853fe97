"""Calls of outside code that have a time limit, and an environment that is called so.

A call that hangs cannot be stopped. It is left behind in its thread, which does not keep the
process from ending.
"""

import queue
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from envs.registry import make_env
from envs.task import Task
from envs.text_env import TextEnv

T = TypeVar("T")
_Jobs = queue.SimpleQueue[Any]
"""Functions to call, each with the queue for its answer; None ends the thread."""


class HungCall(ValueError):
    """A call did not return in time. Its thread takes no other call."""


class CallThread:
    """Makes calls in one thread of its own, in which no event loop runs."""

    def __init__(self, name: str) -> None:
        """Start the thread; it ends after this object is gone."""
        self._jobs: _Jobs = queue.SimpleQueue()
        # A daemon, so that a call that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=_work, args=(self._jobs,), name=name, daemon=True)
        self._thread.start()
        self._hung = ""
        self.close = weakref.finalize(self, self._jobs.put, None)
        """Lets the thread end when its call has returned."""

    def call(self, label: str, function: Callable[[], T], *, seconds: float) -> T:
        """Return what `function` returns, or raise what it raises.

        Args:
            label: names the call in the sentence of an error.
            function: the call.
            seconds: how long it may take.

        Raises:
            HungCall: it takes longer, or an earlier call of this thread never returned.
        """
        if self._hung:
            raise HungCall(self._hung)
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs.put((function, answer))
        try:
            value, error = answer.get(timeout=seconds)
        except queue.Empty:
            self._hung = f"{label} had not come back after {seconds:g} seconds, {self._place()}"
            raise HungCall(self._hung) from None
        if error is not None:
            raise error
        return value  # type: ignore[no-any-return]

    @property
    def has_hung(self) -> bool:
        """Whether a call has not returned in time."""
        return bool(self._hung)

    def _place(self) -> str:
        """The line at which the thread hangs, in words."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        if frame is None:
            return "and has ended"
        last = traceback.extract_stack(frame)[-1]
        return f"and was at {last.filename}:{last.lineno} (`{last.line}`)"


def _work(jobs: _Jobs) -> None:
    while (job := jobs.get()) is not None:
        function, answer = job
        try:
            answer.put((function(), None))
        except BaseException as error:  # SystemExit included: the caller judges it
            answer.put((None, error))
        # Else they would live until the next call, and an environment with them.
        del job, function, answer


@dataclass(frozen=True, kw_only=True)
class TimeLimit:
    """How long each call of an environment may take."""

    seconds: float
    """The limit."""
    setting: str
    """The setting that says so, for messages."""


class ThreadedEnv(TextEnv):
    """An environment that lives in a thread of its own, each of whose calls has a time limit.

    For a process that must not hang with its environment. A call costs some 20 microseconds more.
    """

    def __init__(self, env_id: str, thread: CallThread, env: TextEnv, limit: TimeLimit) -> None:
        """Wrap an environment that was made in `thread` (see `open_env`)."""
        self._env_id, self._thread, self._env, self._limit = env_id, thread, env, limit
        self.splits = env.splits
        self.action_space, self.observation_space = env.action_space, env.observation_space

    @property
    def has_hung(self) -> bool:
        """Whether a call has not returned in time."""
        return self._thread.has_hung

    def tasks(self, split: str) -> list[Task]:
        return self._ask(f"tasks({split!r})", lambda: self._env.tasks(split))

    def words(self) -> list[str]:
        return self._ask("words()", self._env.words)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return self._call("reset", lambda: self._env.reset(seed=seed, options=options))

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        return self._call("step", lambda: self._env.step(action))

    def close(self) -> None:
        self._call("close()", self._env.close)

    def clone(self) -> Self:
        twin = self._call("clone()", self._env.clone)
        return type(self)(self._env_id, self._thread, twin, self._limit)

    def _call(self, label: str, function: Callable[[], T]) -> T:
        return _within(self._limit, self._thread, f"env.id {self._env_id}: its {label}", function)

    def _ask(self, label: str, function: Callable[[], T]) -> T:
        """Call a function whose errors nobody else turns into a sentence."""
        return _explained(
            f"env.id {self._env_id}: its {label}", lambda: self._call(label, function)
        )


def has_hung(env: TextEnv) -> bool:
    """Whether a call of an environment of `open_env` has not returned, so that none will."""
    return isinstance(env, ThreadedEnv) and env.has_hung


def open_env(env_id: str, options: dict[str, Any], limit: TimeLimit) -> TextEnv:
    """Make an environment as `make_env`, in a thread of its own and with a time limit.

    Raises:
        HungCall: the constructor does not return in time. Later, any call may raise it.
        ValueError: as `make_env`, or the constructor raises something else.
    """
    thread = CallThread(f"environment {env_id}")
    label = f"env.id {env_id}: its constructor"
    env = _explained(
        label, lambda: _within(limit, thread, label, lambda: make_env(env_id, **options))
    )
    return ThreadedEnv(env_id, thread, env, limit)


def _within(limit: TimeLimit, thread: CallThread, label: str, function: Callable[[], T]) -> T:
    """Call a function; the error of a call that hangs names the setting."""
    try:
        return thread.call(label, function, seconds=limit.seconds)
    except HungCall as error:
        raise HungCall(
            f"{error} ({limit.setting}); raise the limit if it is only slow, and see that every "
            "wait in it has an end"
        ) from None


def _explained(label: str, call: Callable[[], T]) -> T:
    """Call a function; an error that is no ValueError becomes one that names the call."""
    try:
        return call()
    except ValueError:
        raise
    except (Exception, SystemExit) as error:
        raise ValueError(f"{label} raised {type(error).__name__}: {error}") from error
