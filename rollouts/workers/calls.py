"""Which call of an environment a process is in, where another process can read it.

An environment is other people's code, and it may never return or take its whole process along.
Nobody can tell from outside what it was doing, so a worker writes it down before every call: the
number of the episode and the command.
"""

import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs import Task, TextEnv

_HEAD = struct.Struct("<dqi")
"""When the call began (0: there is none), the episode's number, the command's bytes (-1: it is a
reset).
"""
_SIZE = 4096
_RESET = -1


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that has not returned: of which episode, what, and for how long."""

    episode: int
    command: str | None
    """None is a reset."""
    seconds: float

    def __str__(self) -> str:
        return "reset" if self.command is None else f"step {self.command!r}"


class CallPage:
    """One page of a file that one process writes and another one reads. A call costs less than a
    microsecond of it.
    """

    def __init__(self, path: Path) -> None:
        """Map the file, which is made where there is none."""
        with path.open("a+b") as file:
            file.truncate(_SIZE)
            self._page = mmap.mmap(file.fileno(), _SIZE)

    def begin(self, episode: int, command: str | None) -> None:
        length = _RESET
        if command is not None:
            text = command.encode(errors="replace")[: _SIZE - _HEAD.size]
            length = len(text)
            self._page[_HEAD.size : _HEAD.size + length] = text
        _HEAD.pack_into(self._page, 0, time.monotonic(), episode, length)

    def end(self) -> None:
        _HEAD.pack_into(self._page, 0, 0.0, 0, 0)

    def read(self) -> Call | None:
        """The call that is under way, or that was when the writer died; the clock is the machine's."""
        began, episode, length = _HEAD.unpack_from(self._page)
        if not began:
            return None
        text = self._page[_HEAD.size : _HEAD.size + max(length, 0)].decode(errors="replace")
        return Call(
            episode=episode,
            command=None if length == _RESET else text,
            seconds=time.monotonic() - began,
        )


class WatchedEnv(TextEnv):
    """An environment during one episode, whose calls are written down."""

    def __init__(self, env: TextEnv, page: CallPage, episode: int) -> None:
        self._env, self._page, self._episode = env, page, episode
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def tasks(self, split: str) -> list[Task]:
        return self._env.tasks(split)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self._page.begin(self._episode, None)
        try:
            return self._env.reset(seed=seed, options=options)
        finally:
            self._page.end()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._page.begin(self._episode, action)
        try:
            return self._env.step(action)
        finally:
            self._page.end()
