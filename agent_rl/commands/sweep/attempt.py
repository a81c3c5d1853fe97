"""One job of a sweep in a process of its own: what it prints is shown and kept, how it ended is
recorded.

A crash, or the system that ends it for its memory, so ends one run and not the sweep.
"""

import codecs
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from agent_rl.commands.sweep.plan import Job, Standing
from agent_rl.config import ConfigError, dump_config
from rollouts.processes.openmp import OPENMP

LOG, ATTEMPTS = "log.txt", "attempts.jsonl"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
"""How long a run that is to stop gets for closing its files and processes."""

Command = Callable[[Job, Standing], list[str]]
"""The command line that does what a standing leaves to do of a job."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How a process of a job went: when it began (UTC), at which stage, and the `steps` that were
    before it.

    `exit` is its exit status, or the negative number of the signal that ended it; `error` is empty
    where it is 0.
    """

    started: str
    stage: str
    steps: int
    seconds: float
    exit: int
    error: str


def process_command(job: Job, standing: Standing) -> list[str]:
    """The real thing, `agent_rl.commands.sweep.process`; it ends with this process, however this
    one ends.
    """
    kind = "run" if job.variant else "start"
    arguments = [kind, standing.stage, str(job.config_file), "--owner", str(os.getpid())]
    return [sys.executable, "-m", "agent_rl.commands.sweep.process", *arguments]


def attempt(job: Job, standing: Standing, command: Command, lock: int) -> Attempt:
    """Run a job's process to its end.

    What an earlier attempt left that cannot be gone on with is set aside. The file descriptor
    `lock` is held by the process too. KeyboardInterrupt stops it.
    """
    if standing.stage == "new":
        set_aside(job.folder / "train" if job.variant else job.folder)
    job.folder.mkdir(parents=True, exist_ok=True)
    job.config_file.write_text(dump_config(job.config))
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    stopped = False
    log = job.folder / LOG
    with log.open("ab") as output:
        output.write(
            f"--- {started}: {standing.stage}, after rollout step {standing.step}\n".encode()
        )
        output.flush()
        begin = output.tell()
        process = subprocess.Popen(
            command(job, standing),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(),
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C at the terminal is for this process, which hands it on
        )
    try:
        _show(process, log, begin)
    except KeyboardInterrupt:
        stopped = True
        raise
    finally:
        if process.poll() is None:
            _stop(process)
        ended = Attempt(
            started=started,
            stage=standing.stage,
            steps=job.rollout_steps - standing.step if job.variant else 0,
            seconds=round(time.monotonic() - clock, 1),
            exit=process.returncode,
            error="stopped" if stopped else _error(process.returncode, log, begin),
        )
        with (job.folder / ATTEMPTS).open("a") as file:
            file.write(json.dumps(asdict(ended)) + "\n")
    return ended


def read_attempts(job: Job) -> list[Attempt]:
    """A job's attempts, the first one first; a line that a kill tore is left out."""
    path = job.folder / ATTEMPTS
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        with suppress(ValueError, TypeError):
            found.append(Attempt(**json.loads(line)))
    return found


def set_aside(folder: Path) -> None:
    """Rename a folder, if it is there, to one that nobody reads: `train.interrupted-1`, or with the
    next free number.

    What is in it will be made again, but it is not this program's to delete.
    """
    if folder.exists():
        names = (folder.with_name(f"{folder.name}.interrupted-{number}") for number in count(1))
        folder.rename(next(name for name in names if not name.exists()))


@contextmanager
def alone_in(folder: Path, *, wait_seconds: float = 10.0) -> Iterator[int]:
    """Hold a folder against other sweeps; yields the file descriptor of the lock, to hand on.

    It waits a little: a run of a killed sweep needs a moment to notice that, and holds the folder
    until then.

    Raises:
        ConfigError: another sweep, or a run of one, is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    limit = time.monotonic() + wait_seconds
    with (folder / ".lock").open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > limit:
                    raise ConfigError(
                        f"{folder}: another sweep is at work there; wait for it or stop it, or name another "
                        "run_folder=..."
                    ) from error
                time.sleep(_POLL_SECONDS)
        yield file.fileno()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt too, so that it stops a run as Ctrl-C does."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _environment() -> dict[str, str]:
    """Ours, for a process whose output goes to a file and is read as it comes."""
    columns = str(shutil.get_terminal_size().columns)
    return {**OPENMP, **os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": columns}


def _show(process: subprocess.Popen[bytes], log: Path, begin: int) -> None:
    """Print what a process adds to its log, until it ends.

    The log is read, and not a pipe: a pipe ends with the last process that has it, and some outlive
    a crash.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with log.open("rb") as file:
        file.seek(begin)
        while True:
            running = (
                process.poll() is None
            )  # asked first: what it wrote last is read after its end
            sys.stdout.write(decoder.decode(file.read()))
            sys.stdout.flush()
            if not running:
                return
            time.sleep(_POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Let a process close what it has open; end it after a while, or at a second Ctrl-C."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_PATIENCE_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def _error(status: int, log: Path, begin: int) -> str:
    """Why a process failed: the signal that ended it, or the last line that it printed."""
    if status == 0:
        return ""
    if status == -signal.SIGKILL:
        return "ended by SIGKILL; the system does that where memory runs out"
    if status < 0:
        return f"ended by {signal.Signals(-status).name}"
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), f"exit status {status}")
