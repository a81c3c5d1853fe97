"""Runs that are broken: `Drill` runs the commands of one run folder, and sees what is left."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from agent_rl.config import ConfigError
from agent_rl.files import UNFINISHED, locked
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories
from tests.builders.drills import computes, served_weights
from tests.builders.paths import ROOT
from tests.builders.runs import logged_steps, reproducible_metrics

POLL_SECONDS = 0.05
LEARNER, ENGINE, WORKER = "ray::LearnerRank", "ray::PolicyActor", "ray::RolloutWorker"


class Drill:
    """A run folder, and the command that works in it now. Use it as a context manager.

    All processes of a command are found by their output: Ray's daemons and actors write to files of
    their own temporary folder, whatever session or parent they have.
    """

    def __init__(self, folder: Path, config: str) -> None:
        """Write the config to `folder`, where the commands will run."""
        self.folder = folder
        self.run = RunLayout(folder / "run")
        self.stage = self.run.train
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "c.yaml").write_text(config)
        # Short: Ray has sockets in it.
        self.temporary = Path(tempfile.mkdtemp(prefix="agent-rl-drill-", dir="/tmp"))
        self._memory: set[Path] = set()
        """Folders with served weights that have been seen."""
        self._starts = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes():
            with suppress(psutil.Error):
                process.kill()
        for folder in self._memory:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def start(self, *arguments: str, within: Sequence[str] = ()) -> None:
        """Start `agent-rl` with a command, the config and further arguments.

        Args:
            arguments: the command and what comes after the config.
            within: a command line that runs it, as `nsenter` does.
        """
        self.driver, self._output = self._spawn(arguments, within)

    def beside(self, *arguments: str, seconds: float = 120.0) -> tuple[int, str]:
        """Run another command to its end while one works; returns its status and output."""
        process, output = self._spawn(arguments, ())
        return process.wait(timeout=seconds), output.read_text()

    def _spawn(
        self, arguments: Sequence[str], within: Sequence[str]
    ) -> "tuple[subprocess.Popen[bytes], Path]":
        """Start a command; returns its process and the file with its output."""
        command = [sys.executable, "-m", "agent_rl.cli", arguments[0], "c.yaml", *arguments[1:]]
        folders = {"TMPDIR": str(self.temporary), "RAY_TMPDIR": str(self.temporary)}
        self._starts += 1
        path = self.temporary / f"output-{self._starts}"
        with path.open("w") as output:
            process = subprocess.Popen(
                [*within, *command],
                cwd=self.folder,
                env={**os.environ, **folders, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, path

    def look_at(self, run: Path) -> None:
        """Look for the run's files in another folder, if its commands run on `small_disks`."""
        self.run = RunLayout(run)
        self.stage = self.run.train

    def do(self, *arguments: str, seconds: float = 600.0) -> str:
        """Run a command to its end, which has to be good; returns its output."""
        self.start(*arguments)
        status, output = self.end(seconds)
        assert status == 0, output
        return output

    @property
    def output(self) -> str:
        """What the command has printed so far."""
        return self._output.read_text()

    @property
    def steps(self) -> list[int]:
        """The rollout steps that are logged."""
        return logged_steps(self.stage)

    def processes(self, name: str = "") -> list[psutil.Process]:
        """The processes of all commands that are alive, or those whose command line has `name`."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if name in " ".join(process.cmdline()) and self._writes_here(process):
                    found.append(process)
        return found

    def one(self, name: str, *, but: Sequence[int] = ()) -> psutil.Process:
        """The only process with that name, as soon as there is one.

        Args:
            but: ids of processes that are meant to be gone.
        """
        found: list[psutil.Process] = []

        def there() -> bool:
            found[:] = [process for process in self.processes(name) if process.pid not in but]
            return len(found) == 1

        self.wait_for(there, f"one {name}")
        return found[0]

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 300.0) -> None:
        """Wait until a condition holds, while the command works.

        Raises:
            AssertionError: the command ended, or time is up.
        """
        self._note_memory()
        limit = time.monotonic() + seconds
        while not condition():
            assert self.driver.poll() is None, f"ended before {what}: {self.output}"
            assert time.monotonic() < limit, f"no {what} within {seconds:g} s: {self.output}"
            time.sleep(POLL_SECONDS)
        self._note_memory()

    def wait_for_steps(self, count: int) -> None:
        """Wait until so many rollout steps are logged since the last checkpoint or the start."""
        self.wait_for(lambda: len(self.steps) >= count, f"step {count}")

    def end(self, seconds: float) -> tuple[int, str]:
        """Wait for the end of the command; returns its exit status and its output.

        Raises:
            AssertionError: time is up: a run that hangs is the one fault that raises nothing.
        """
        try:
            status = self.driver.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"no end within {seconds:g} s: {self.output}") from None
        return status, self.output

    def assert_nothing_left(self, seconds: float = 30.0, *, memory: bool = True) -> None:
        """Assert that soon no process, lock, temporary folder or shared memory is left.

        Args:
            memory: whether the served weights and half a checkpoint count. They stay if the driver
                is killed, until the next run starts.
        """
        limit = time.monotonic() + seconds
        while left := self._left(memory=memory):
            assert time.monotonic() < limit, left
            time.sleep(POLL_SECONDS)

    def _left(self, *, memory: bool) -> list[str]:
        left = [f"{process.pid} {process.name()}" for process in self.processes()]
        try:
            with locked(self.run.lock_file, "the run folder is locked"):
                pass
        except ConfigError as error:
            left.append(str(error))
        left += map(str, self.temporary.glob("agent-rl-*"))
        if memory:
            left += [str(path) for path in self._memory if path.exists()]
            left += map(str, self.stage.folder.rglob(f"*{UNFINISHED}*"))
        return left

    def _writes_here(self, process: psutil.Process) -> bool:
        outputs = (os.readlink(f"/proc/{process.pid}/fd/{number}") for number in (1, 2))
        return any(output.startswith(str(self.temporary)) for output in outputs)

    def _note_memory(self) -> None:
        """Remember where the learner has served weights."""
        self._memory |= served_weights(process.pid for process in self.processes(LEARNER))


def in_update(learner: psutil.Process) -> Callable[[], bool]:
    """A state: the learner computes an update. Ray writes the method into the process's title."""
    busy = computes(learner)
    return lambda: busy() and _title(learner).startswith(f"{LEARNER}.update")


def generates(engine: psutil.Process, learner: psutil.Process) -> Callable[[], bool]:
    """A state: the engine computes, and the learner does nothing."""
    busy = computes(engine)
    return lambda: busy() and _title(learner) == LEARNER


def _title(process: psutil.Process) -> str:
    return " ".join(process.cmdline()).strip()


def is_writing_checkpoint(drill: Drill) -> bool:
    """A state: a checkpoint is begun, and not whole."""
    return any(drill.stage.checkpoints.glob(f"step-*{UNFINISHED}*"))


def assert_parity(drill: Drill, unbroken: Drill) -> None:
    """Assert that a run has each step and each episode of the unbroken one once, all the same.

    Its steps after the newest checkpoint will be repeated, and do not count yet.
    """
    steps = range(1, unbroken.steps[-1] + 1)
    assert drill.steps == list(range(1, drill.steps[-1] + 1))
    for step in steps:
        assert _played(drill, step) == _played(unbroken, step)
    got = reproducible_metrics(drill.stage)[: len(steps)]
    assert got == reproducible_metrics(unbroken.stage)
    # Equal returns would teach nothing, and nothing is easy to repeat.
    assert sum(step["learner/grad_norm"] > 0.0 for step in got) > len(got) / 2


def _played(drill: Drill, step: int) -> list[tuple[Any, ...]]:
    """What tells the episodes of a rollout step apart."""
    episodes = load_trajectories(drill.stage.step_episodes(step))
    return [(e.task, e.token_ids, e.behavior_logprobs, e.stop_reason) for e in episodes]


@contextmanager
def small_disks(folders: dict[Path, int], *, working: Path) -> Iterator[list[str]]:
    """Let folders be file systems of so many MiB each; yields what runs a command there.

    They are seen by that command only. `seen_by` finds their files.

    Args:
        working: the command's working folder.
    """
    mounts = [f"mount -t tmpfs -o size={size}m tmpfs {folder}" for folder, size in folders.items()]
    script = " && ".join([*mounts, "echo ready", "exec sleep 3000"])
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            pytest.skip("this machine lets nobody mount a file system of his own")
        target = ["--target", str(holder.pid), "--user", "--mount", "--preserve-credentials"]
        # The working folder again: the present one is that of the file systems outside.
        yield ["nsenter", *target, "env", f"--chdir={working}"]
    finally:
        holder.kill()
        holder.wait()


def seen_by(within: Sequence[str], path: Path) -> Path:
    """The path of a file on `small_disks` for this process."""
    pid = within[within.index("--target") + 1]
    return Path(f"/proc/{pid}/root", path.relative_to("/"))


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Fill a file system until only `leave` bytes are free; returns the file, to be deleted.

    A second call fills what has become free.
    """
    path = folder / "filler"
    block = bytes(4096)
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while shutil.disk_usage(folder).free > leave:
            file.write(block)
    return path
