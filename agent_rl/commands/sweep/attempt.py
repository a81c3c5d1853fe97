"""One job of a sweep in its own process: its output is shown and logged, its end is recorded.

A crash, or an end by the system for lack of memory, therefore ends one run and not the sweep.
"""

import codecs
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from agent_rl.commands.stages.start import locked_run
from agent_rl.commands.sweep.plan import SweepJob, SweepProgress
from agent_rl.config import dump_config
from agent_rl.files import locked, set_aside, write_text
from rollouts.processes.openmp import OPENMP

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
"""The time that a stopped run gets to close its files and processes."""

Command = Callable[[SweepJob, SweepProgress], list[str]]
"""The command line that does the rest of a job."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The record of one process of a job: a line of `attempts.jsonl`."""

    started: str
    """The time of its start (UTC)."""
    stage: str
    """The `NextStep` that it started with."""
    steps: int
    """The rollout steps that were left; 0 for the start."""
    seconds: float
    """Its wall-clock time."""
    exit: int
    """Its exit status, or minus the number of the signal that ended it."""
    error: str
    """The reason of its failure; empty if `exit` is 0."""


def process_command(job: SweepJob, progress: SweepProgress) -> list[str]:
    """The command line of `agent_rl.commands.sweep.process`. That process ends with this one."""
    kind = "run" if job.variant else "start"
    config_file = str(job.layout.config_file)
    arguments = [kind, progress.next_step, config_file, "--owner", str(os.getpid())]
    return [sys.executable, "-m", "agent_rl.commands.sweep.process", *arguments]


def attempt(job: SweepJob, progress: SweepProgress, command: Command, lock: int) -> Attempt:
    """Run a job's process to its end.

    Files of an earlier attempt that cannot be resumed are set aside first.

    Args:
        job: the job.
        progress: its progress.
        command: gives the process's command line.
        lock: the file descriptor of the sweep's lock. The process inherits it, so that the folder
            stays locked while the process lives, even if this one is killed.

    Raises:
        KeyboardInterrupt: the user stopped the sweep. The process has ended then.
    """
    if progress.next_step == "new" and job.folder.is_dir():
        # A person may train in it, without the sweep.
        with locked_run(job.layout):
            set_aside(job.layout.train.folder if job.variant else job.folder, "interrupted")
    write_text(job.layout.config_file, dump_config(job.config))
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with job.layout.log_file.open("ab") as log:
        title = f"--- {started}: {progress.next_step}, after rollout step {progress.step}\n"
        log.write(title.encode())
        log.flush()
        begin = log.tell()
        process = subprocess.Popen(
            command(job, progress),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=(lock,),
            # Ctrl-C at the terminal reaches this process alone, which passes it on once.
            start_new_session=True,
        )
    stopped = False
    try:
        _show(process, job.layout.log_file, begin)
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        if process.poll() is None:
            _stop(process)
        ended = Attempt(
            started=started,
            stage=progress.next_step,
            steps=job.rollout_steps - progress.step if job.variant else 0,
            seconds=round(time.monotonic() - clock, 1),
            exit=process.returncode,
            error="stopped" if stopped else _error(process.returncode, job.layout.log_file, begin),
        )
        with job.layout.attempts_file.open("a") as file:
            file.write(json.dumps(asdict(ended)) + "\n")
    return ended


def read_attempts(job: SweepJob) -> list[Attempt]:
    """A job's attempts in their order. A line that was cut off by a kill is left out."""
    path = job.layout.attempts_file
    if not path.is_file():
        return []
    attempts = []
    for line in path.read_text().splitlines():
        with suppress(ValueError, TypeError):
            attempts.append(Attempt(**json.loads(line)))
    return attempts


def sweep_lock(folder: Path, *, wait_seconds: float = 10.0) -> AbstractContextManager[int]:
    """Lock a sweep's folder; yields the lock's file descriptor, for the processes of its jobs.

    The run of a killed sweep holds the lock until it has ended too, so this function waits.

    Raises:
        ConfigError: another sweep, or a run of one, is at work there.
    """
    busy = (
        f"{folder}: another sweep is at work there; wait for it or stop it, or name another "
        "run_folder=..."
    )
    return locked(folder / ".lock", busy, wait_seconds=wait_seconds)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt within this context: it stops a run as Ctrl-C does.

    A second Ctrl-C raises it too, which kills the run.
    """

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _environment() -> dict[str, str]:
    """The environment variables of a process whose output goes to a file that is read meanwhile."""
    columns = str(shutil.get_terminal_size().columns)
    return {**OPENMP, **os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": columns}


def _show(process: subprocess.Popen[bytes], log: Path, begin: int) -> None:
    """Print the output that a process adds to its log, until it ends.

    The output comes from the log and not from a pipe. A pipe ends with the last process that holds
    it, and some processes outlive a crash of their parent.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with log.open("rb") as file:
        file.seek(begin)
        while True:
            # Asked before reading, so that its last output is read after its end.
            running = process.poll() is None
            sys.stdout.write(decoder.decode(file.read()))
            sys.stdout.flush()
            if not running:
                return
            time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a process; kill it if it does not end soon, or at a second Ctrl-C."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _error(status: int, log: Path, begin: int) -> str:
    """Why a process failed: the signal that ended it, or the last line of its output."""
    if status == 0:
        return ""
    if status == -signal.SIGKILL:
        return "ended by SIGKILL; the system does that if memory runs out"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    for line in reversed(lines):
        if line.strip():
            return line.strip()
    return f"exit status {status}"
