"""The process of one tracker. It follows the files of a stage and tells the tracker's package.

    python -m agent_rl.runs.trackers.tracker_process NAME FOLDER PIPE DRIVER

FOLDER is the stage's, PIPE the number of a pipe that the process inherits, DRIVER the id of the
process that trains. A line in the pipe, `complete` or `incomplete`, says that the stage has ended;
a pipe that ends without one says that its driver died. Each line on the standard output is for
people; what the package prints goes to the standard error, a log.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO, cast

from agent_rl.config import Config, load_run_config
from agent_rl.config.keys import flat_values
from agent_rl.config.sections import TrackerName
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.follower import Follower, Told
from agent_rl.runs.trackers.tracker import TrackedRun, Tracker

_LOOK_SECONDS = 1.0
"""Time from one look at the files to the next."""
_RETRY_SECONDS = 30.0
"""Time from a failure to the next try."""
_SLOW_SECONDS = 60.0
"""A call that takes longer is told."""
_LONGEST_REASON = 300
COMPLETE, INCOMPLETE = "complete", "incomplete"
"""The lines in the pipe."""


class TrackerProcess:
    """One tracker, its follower, and the end that the driver sets."""

    def __init__(
        self, name: TrackerName, layout: StageLayout, config: Config, driver: int, messages: TextIO
    ) -> None:
        self._name, self._layout, self._config, self._driver = name, layout, config, driver
        self._messages = messages
        self._follower = Follower(layout, name, config.tracking, Told.read(layout, name))
        self._tracker: Tracker | None = None
        self._ended = threading.Event()
        self._complete = False
        self._busy_since: float | None = None
        self._failing = False
        self._retry_at = 0.0
        self._noted: set[str] = set()

    def run(self, pipe: int) -> int:
        """Follow until the stage ends; returns the exit status."""
        threading.Thread(target=self._wait_for_end, args=(pipe,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        ended = False
        while not ended:
            ended = self._ended.wait(_LOOK_SECONDS)
            if ended or time.monotonic() >= self._retry_at:
                self._try(finish=ended)
        if self._failing:
            self._say(self._left())
        return int(self._failing)

    def _try(self, *, finish: bool) -> None:
        """Tell the tracker all that is new; a failure is said, and tried again later."""
        self._busy_since = time.monotonic()
        try:
            if self._tracker is None:
                self._tracker = open_tracker(self._name, self._described(), self._note)
                told = replace(self._follower.told, run_id=self._tracker.run_id)
                self._follower.keep(told)
            self._follower.tell_new(self._tracker)
            if finish:
                self._tracker.finish(complete=self._complete)
        except Exception as error:
            self._warn(f"{type(error).__name__}: {error}")
            self._retry_at = time.monotonic() + _RETRY_SECONDS
        else:
            if self._failing:
                self._say("answers again, and is told what it missed")
            self._failing = False
        finally:
            self._busy_since = None

    def _described(self) -> TrackedRun:
        config, tracking = self._config, self._config.tracking
        stage = self._layout.folder.name
        name = tracking.run_name or self._layout.folder.absolute().parent.name
        return TrackedRun(
            project=tracking.project,
            name=name if stage == "train" else f"{name}-{stage}",
            group=name,
            stage=stage,
            config=flat_values(config),
            folder=self._layout.trackers,
            known_as=self._follower.told.run_id,
            driver=self._driver,
            finish_seconds=tracking.finish_seconds,
        )

    def _wait_for_end(self, pipe: int) -> None:
        """Wait for the driver's word, or its death. Then the process has a limited time."""
        with open(pipe) as lines:
            self._complete = lines.readline().strip() == COMPLETE
        self._ended.set()
        seconds = self._config.tracking.finish_seconds
        time.sleep(seconds)
        self._say(f"has not finished {seconds:g} s after the end, and is left: {self._left()}")
        os._exit(2)

    def _watch(self) -> None:
        """Say once if a call takes long."""
        while not self._ended.wait(_LOOK_SECONDS):
            busy = self._busy_since
            if busy is not None and time.monotonic() - busy > _SLOW_SECONDS:
                self._warn(f"has not answered for {_SLOW_SECONDS:.0f} s")

    def _warn(self, reason: str) -> None:
        """Say why the tracker is not told, unless it was not told before either."""
        print(reason, file=sys.stderr, flush=True)
        if not self._failing:
            self._failing = True
            self._say(f"{_short(reason)}; the run goes on without it, and it is tried again")

    def _note(self, warning: str) -> None:
        """Say once what a package warns of and goes on after."""
        print(warning, file=sys.stderr, flush=True)
        if warning not in self._noted:
            self._noted.add(warning)
            self._say(_short(warning))

    def _left(self) -> str:
        """What the tracker does not have."""
        left = self._follower.steps_to_tell()
        log = self._layout.tracker_log(self._name)
        return f"{left} steps are not told, {self._layout.metrics_file} has them; see {log}"

    def _say(self, text: str) -> None:
        with suppress(OSError):  # the driver is dead
            print(text, file=self._messages, flush=True)


def _short(text: str) -> str:
    """The text on one line that is not too long."""
    return " ".join(text.split())[:_LONGEST_REASON]


def open_tracker(name: TrackerName, run: TrackedRun, warn: Callable[[str], None]) -> Tracker:
    """Make the adapter of a tracker; its package is imported here.

    Args:
        name: the tracker's.
        run: what the tracker shows.
        warn: is called with what a package warns of and goes on after.

    Raises:
        Exception: of the package, such as one for a server that is down.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    if name == "wandb":
        from agent_rl.runs.trackers.wandb_tracker import WandbTracker

        return WandbTracker(run)
    if name == "mlflow":
        from agent_rl.runs.trackers.mlflow_tracker import MlflowTracker

        return MlflowTracker(run)
    from agent_rl.runs.trackers.trackio_tracker import TrackioTracker

    return TrackioTracker(run, warn=warn)


def run_process() -> None:
    """Run the process that the arguments describe."""
    name, folder, pipe, driver = sys.argv[1:]
    # Before any package is imported, which may print.
    messages = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.nice(10)  # training comes first
    layout = StageLayout(Path(folder))
    process = TrackerProcess(
        cast("TrackerName", name),
        layout,
        load_run_config(layout.config_file),
        int(driver),
        messages,
    )
    status = process.run(int(pipe))
    # Packages have hooks for the end of a process that may wait for their server again.
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run_process()
