"""What a running command holds, at one moment: memory, files, threads, folders.

Everything is read from the operating system, so the command that is watched need not help.
"""

import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a command and its processes hold."""

    seconds: float
    """Since the command began."""
    steps: int
    """Lines of the run's metrics."""
    processes: int
    """The command's and all that descend from it."""
    memory_mib: dict[str, float]
    """Memory of each kind of process; a page that several share is divided between them (PSS)."""
    open_files: int
    """File descriptors, sockets among them."""
    threads: int
    """Of all processes."""
    shared_memory_mib: float
    """What lies in /dev/shm, whoever put it there."""
    ray_mib: float
    """What Ray's folder of this cluster holds: logs, sockets, spilled objects."""
    run_mib: float
    """The run's folder."""

    @property
    def memory_mib_all(self) -> float:
        """The memory of all processes."""
        return sum(self.memory_mib.values())


def take_sample(root: psutil.Process, run: Path, metrics: Path, begin: float) -> Sample:
    """Look at a process and its descendants now.

    Args:
        root: the command's own process.
        run: the run's folder.
        metrics: the file with a line for each rollout step.
        begin: `time.monotonic()` at the command's begin.
    """
    memory: Counter[str] = Counter()
    processes = files = threads = 0
    folders: set[Path] = set()
    for process in (root, *root.children(recursive=True)):
        try:
            with process.oneshot():
                command = process.cmdline()
                kind = kind_of(process.pid == root.pid, command)
                memory[kind] += process.memory_full_info().pss
                files += process.num_fds()
                threads += process.num_threads()
        except psutil.Error:
            continue  # It ended meanwhile.
        processes += 1
        folders |= ray_folders(command)
    return Sample(
        seconds=time.monotonic() - begin,
        steps=metrics.read_bytes().count(b"\n") if metrics.is_file() else 0,
        processes=processes,
        memory_mib={kind: size / 2**20 for kind, size in sorted(memory.items())},
        open_files=files,
        threads=threads,
        shared_memory_mib=folder_mib(SHARED_MEMORY),
        ray_mib=sum(map(folder_mib, folders)),
        run_mib=folder_mib(run),
    )


def kind_of(is_root: bool, command: list[str]) -> str:
    """Name what a process does, from its command line.

    >>> kind_of(False, ["ray::RolloutWorker.run"])
    'RolloutWorker'
    >>> kind_of(False, ["/bin/raylet/raylet", "--raylet_socket_name=/tmp/ray/s/raylet"])
    "Ray's own"
    """
    if is_root:
        return "driver"
    title = command[0] if command else ""
    if title.startswith("ray::") and not title.endswith("Agent"):
        return title.removeprefix("ray::").split(".")[0].split()[0]
    return "Ray's own" if any("ray" in part for part in command) else "others"


def ray_folders(command: list[str]) -> set[Path]:
    """The folder of a cluster, from the command line of its raylet; else nothing.

    >>> ray_folders(["raylet", "--raylet_socket_name=/tmp/ray/session_1/sockets/raylet"])
    {PosixPath('/tmp/ray/session_1')}
    """
    for part in command:
        name, _, value = part.partition("=")
        if name == "--raylet_socket_name":
            return {Path(value).parent.parent}
    return set()


def folder_mib(folder: Path) -> float:
    """What the files of a folder take on the disk, in MiB; 0 if there is none."""
    size = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            try:
                # Blocks of 512 bytes: a file with holes is smaller than its length.
                size += os.lstat(os.path.join(inside, name)).st_blocks * 512
            except OSError:
                continue  # It was deleted meanwhile.
    return size / 2**20
