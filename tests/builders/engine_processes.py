"""What a real engine of several processes has on this machine, and whether it is gone."""

import re
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

_SHARED = re.compile(r"/dev/shm/psm_\S+")


@dataclass(frozen=True)
class Traces:
    """The processes and the shared memory of an engine."""

    ranks: tuple[int, ...]
    """Ids of the processes that compute."""
    processes: tuple[int, ...]
    """Ids of all processes below that of the policy actor."""
    memory: tuple[Path, ...]
    """Files of shared memory."""

    def left_after(self, seconds: float, *, memory: bool = True) -> list[object]:
        """What is still there after so many seconds; it returns as soon as nothing is.

        Args:
            memory: whether shared memory counts.
        """
        limit = time.monotonic() + seconds
        while self._left(memory) and time.monotonic() < limit:
            time.sleep(0.1)
        return self._left(memory)

    def _left(self, memory: bool) -> list[object]:
        pids = [pid for pid in self.processes if _runs(pid)]
        return [*pids, *(path for path in self.memory if memory and path.exists())]


def traces_of(actor_pid: int) -> Traces:
    """Look at the engine in the process of a policy actor."""
    actor = psutil.Process(actor_pid)
    below = actor.children(recursive=True)
    # The other child is Python's helper that deletes shared memory.
    ranks = [child for child in below if "resource_tracker" not in " ".join(child.cmdline())]
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in (actor, *ranks)]
    memory = {Path(name) for text in maps for name in _SHARED.findall(text)}
    return Traces(
        tuple(child.pid for child in ranks),
        tuple(child.pid for child in below),
        tuple(sorted(memory)),
    )


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
