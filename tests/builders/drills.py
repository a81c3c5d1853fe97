"""Drills: a real process is broken in a chosen state, and what came of it is a row of a table.

With `DRILLS_FOLDER=FOLDER`, each drill adds its row there, and
`python -m tests.builders.drills FOLDER` prints the table.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

COLUMNS = ("fault", "state", "outcome", "seconds", "lost", "parity")


def record(*, fault: str, state: str, outcome: str, seconds: float, lost: str, parity: str) -> None:
    """Add a row to the table, if a person asked for one with `DRILLS_FOLDER`.

    Args:
        fault: what was done to which process.
        state: what the process did then.
        outcome: what the run did.
        seconds: from the fault to the outcome.
        lost: what was lost.
        parity: how the run compares with one that nobody broke.
    """
    folder = os.environ.get("DRILLS_FOLDER")
    if folder:
        row = dict(zip(COLUMNS, (fault, state, outcome, seconds, lost, parity), strict=True))
        Path(folder).mkdir(parents=True, exist_ok=True)
        with Path(folder, "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def table(folder: Path) -> str:
    """The rows in a folder as Markdown; of a drill that was repeated, the last one."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in (folder / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["fault"], row["state"]] = {**row, "seconds": f"{row['seconds']:.0f}"}
    lines = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    lines += [" | ".join(row[name] for name in COLUMNS) for row in rows.values()]
    return "".join(f"| {line} |\n" for line in lines)


def signal_in(
    process: psutil.Process,
    in_state: Callable[[], bool],
    number: int,
    *,
    then: Callable[[], None] | None = None,
    seconds: float = 120.0,
) -> float:
    """Send a signal to a process while it is in a state; returns the time (monotonic).

    The process is stopped first, so that it cannot leave the state between the look and the signal.

    Args:
        in_state: looks at what is outside of the process, such as its files or its threads.
        then: sends the signal otherwise, for example to other processes too.

    Raises:
        AssertionError: the state was not met in time.
    """
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if not in_state():
            time.sleep(0.002)
            continue
        process.suspend()
        if in_state():
            now = time.monotonic()
            if number != signal.SIGKILL:
                process.resume()
            if then is None:
                process.send_signal(number)
            else:
                then()
            return now
        process.resume()
    raise AssertionError(f"process {process.pid} was never in the state")


def computes(process: psutil.Process, looks: int = 4) -> Callable[[], bool]:
    """A state: the same thread of a process was found computing, several times in a row."""

    def look() -> bool:
        found = _computing(process.pid)
        for _ in range(looks - 1):
            time.sleep(0.003)
            found &= _computing(process.pid)
        return bool(found)

    return look


def _computing(pid: int) -> set[str]:
    """The threads of a process that run or are stopped, by their ids."""
    found = set()
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with suppress(OSError):  # it has just ended
            if stat.read_text().rpartition(")")[2].split()[0] in "RT":
                found.add(stat.parent.name)
    return found


if __name__ == "__main__":
    sys.stdout.write(table(Path(sys.argv[1])))


def served_weights(pids: Iterable[int]) -> set[Path]:
    """The folders in memory that the learners among these processes serve their weights from.

    A learner holds a lock there.
    """
    folders = set()
    for pid in pids:
        with suppress(psutil.Error, OSError):
            for file in psutil.Process(pid).open_files():
                if "agent-rl-weights-" in file.path:
                    folders.add(Path(file.path).parent)
    return folders
