"""Starts a process for each tracker of a stage, says what they say, and ends them in time."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

from agent_rl.config import Config
from agent_rl.display import say
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.tracker_process import COMPLETE, INCOMPLETE

_GRACE_SECONDS = 3.0
"""A process ends itself in time. One that is stopped or starved is killed so much later."""


class RunningTrackers:
    """The processes of `tracking.trackers`, from the start of a stage to its end.

    The run gives them nothing but the word that it has ended: they follow its files. So a tracker
    cannot slow it, and one that dies leaves a line on the terminal.
    """

    def __init__(self, layout: StageLayout, config: Config) -> None:
        """Start the processes. They read the stage's config and metrics, which come first.

        The config is written, and a resumed stage has cut its metrics at the checkpoint.

        Args:
            layout: the stage's folder.
            config: says which trackers, and how long `close` may wait.
        """
        self._seconds = config.tracking.finish_seconds
        self._running = [_Running(name, layout) for name in config.tracking.trackers]

    def close(self, *, complete: bool) -> None:
        """Let the trackers finish, and wait for at most `tracking.finish_seconds`.

        Args:
            complete: whether the stage was done to its end.
        """
        running, self._running = self._running, []
        for tracker in running:
            tracker.end(complete=complete)
        deadline = time.monotonic() + self._seconds + _GRACE_SECONDS
        for tracker in running:
            tracker.wait(until=deadline)


class _Running:
    """The process of one tracker."""

    def __init__(self, name: str, layout: StageLayout) -> None:
        self._name, self._log = name, layout.tracker_log(name)
        self._closing = False
        layout.trackers.mkdir(parents=True, exist_ok=True)
        end, self._pipe = os.pipe()
        module = "agent_rl.runs.trackers.tracker_process"
        arguments = [name, str(layout.folder), str(end), str(os.getpid())]
        try:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=(end,),
                    # A signal to the run's group is not meant for it.
                    start_new_session=True,
                    text=True,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                )
        finally:
            os.close(end)
        assert self._process.stdout is not None
        self._reader = threading.Thread(
            target=self._say_all, args=(self._process.stdout,), daemon=True
        )
        self._reader.start()

    def end(self, *, complete: bool) -> None:
        """Say that the stage has ended."""
        self._closing = True
        with suppress(OSError):  # the process is dead
            os.write(self._pipe, f"{COMPLETE if complete else INCOMPLETE}\n".encode())
        os.close(self._pipe)

    def wait(self, *, until: float) -> None:
        """Wait for the process and what it says; kill it after `until`, by the monotonic clock."""
        try:
            self._process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            say(f"tracker {self._name}: does not end and is killed; see {self._log}")
        with suppress(ProcessLookupError):
            # Processes of the package's own are in its group, too.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(_GRACE_SECONDS)

    def _say_all(self, lines: IO[str]) -> None:
        """Say each line of the process, and that it died if it did."""
        for line in lines:
            say(f"tracker {self._name}: {line.rstrip()}")
        if not self._closing:
            status = self._process.wait()
            say(
                f"tracker {self._name}: its process died (status {status}); the run goes on "
                f"without it; see {self._log}"
            )
