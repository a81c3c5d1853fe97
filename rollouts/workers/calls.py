"""A worker's current environment call, written where the pool's process can read it.

Environments are code from outside. One may never return, or take its whole process down, and then
the process itself cannot report. So a worker writes each call down before it makes it: the number
of the episode, and the command. The pool reads this to blame a hung or dead process on one episode.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs import TextEnv
from envs.text_env import EnvWrapper

_HEAD = struct.Struct("<dqi")
"""The start of a page: when the call began (0: no call), the episode's number, and the length of
the command in bytes (-1: a reset, -2: the constructor). The command follows."""
_PAGE_BYTES = 4096
_RESET, _MAKING = -1, -2


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call that has not returned."""

    episode: int
    """The number of the episode that made it."""
    command: str | None
    """The command of a step; None for a reset or the constructor."""
    making: bool = False
    """Whether it is the environment's constructor."""
    seconds: float
    """How long ago it began."""

    @property
    def is_reset(self) -> bool:
        """Whether it is a reset."""
        return self.command is None and not self.making

    def __str__(self) -> str:
        if self.making:
            return "the constructor, for an episode"
        return "reset" if self.command is None else f"step {self.command!r}"


class CallPage:
    """One page of memory, written by a worker and read by the pool.

    It is a file in memory without a name in any folder: nothing is left of it, whoever is killed.
    Writing takes under a microsecond, and the page outlives a writer that is killed.
    """

    path: Path
    """Where the processes of this machine find the page, as long as its maker has it open."""

    def __init__(self, path: Path | None = None) -> None:
        """Map the page at `path`, or a new one."""
        if path is None:
            self._file = os.memfd_create("agent-rl-calls")
            os.truncate(self._file, _PAGE_BYTES)
            path = Path(f"/proc/{os.getpid()}/fd/{self._file}")
        else:
            self._file = os.open(path, os.O_RDWR)
        self.path = path
        self._page = mmap.mmap(self._file, _PAGE_BYTES)

    def close(self) -> None:
        """Give the page back."""
        self._page.close()
        os.close(self._file)

    def begin(self, episode: int, command: str | None) -> None:
        """Write down a call that starts now; a command that is too long is cut."""
        length = _RESET
        if command is not None:
            text = command.encode(errors="replace")[: _PAGE_BYTES - _HEAD.size]
            length = len(text)
            self._page[_HEAD.size : _HEAD.size + length] = text
        # The head goes last: with it the call counts as begun, and its text is already there.
        _HEAD.pack_into(self._page, 0, time.monotonic(), episode, length)

    def begin_making(self, episode: int) -> None:
        """Write down that an environment is made now, for `episode`, or at the start (-1)."""
        _HEAD.pack_into(self._page, 0, time.monotonic(), episode, _MAKING)

    def end(self) -> None:
        """Write down that no call is under way."""
        _HEAD.pack_into(self._page, 0, 0.0, 0, 0)

    def read(self) -> Call | None:
        """Return the call under way, or the one in which the writer died; else None."""
        began, episode, length = _HEAD.unpack_from(self._page)
        if not began:
            return None
        text = self._page[_HEAD.size : _HEAD.size + max(length, 0)].decode(errors="replace")
        # All processes of a machine share the monotonic clock, so the times can be subtracted.
        return Call(
            episode=episode,
            command=text if length >= 0 else None,
            making=length == _MAKING,
            seconds=time.monotonic() - began,
        )


class WatchedEnv(EnvWrapper):
    """An environment during one episode, whose calls are written to a page."""

    def __init__(self, env: TextEnv, page: CallPage, episode: int) -> None:
        """Wrap `env` for the episode with the number `episode`."""
        super().__init__(env)
        self._page, self._episode = page, episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self._page.begin(self._episode, None)
        try:
            return super().reset(seed=seed, options=options)
        finally:
            self._page.end()

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._page.begin(self._episode, action)
        try:
            return super().step(action)
        finally:
            self._page.end()
