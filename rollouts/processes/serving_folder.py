"""Folders for the weights that are served: private, in memory if there is room, gone when stale.

A folder is locked as long as its process lives. So another start deletes it only if that process is
gone, even if the two see different process numbers, as in containers.
"""

import logging
import os
import shutil
import stat
import tempfile
from contextlib import ExitStack
from itertools import chain
from pathlib import Path

from envs.files import hold_lock

MEMORY = Path("/dev/shm")
"""The memory-backed file system of Linux; a sync through it costs no disk access."""
_PREFIX = "agent-rl-weights-"
_LOCK = "lock"
_SPARE_BYTES = 32 * 2**20
"""Room for the tokenizer and the config beside the weights."""


class ServingFolder:
    """A new folder that only this user can read, with a name that nobody can guess."""

    path: Path
    """The folder."""

    def __init__(self, parent: Path) -> None:
        """Make the folder in `parent`, and lock it until `close` or the end of the process."""
        self._lock = ExitStack()
        # It gets its name when it is locked: a named folder without an owner is stale.
        unnamed = Path(tempfile.mkdtemp(dir=parent, prefix=f".{_PREFIX}"))
        self.path = unnamed.with_name(unnamed.name.removeprefix("."))
        try:
            self._lock.enter_context(hold_lock(unnamed / _LOCK, f"{unnamed}: in use"))
            unnamed.rename(self.path)
        except BaseException:
            self._lock.close()
            shutil.rmtree(unnamed, ignore_errors=True)
            raise

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def roomy_parent(weights_bytes: int, kept_bytes: int = 0) -> Path:
    """Return where to make a `ServingFolder`: in memory, or else the temporary folder.

    Args:
        weights_bytes: size of the weights. Twice as much is needed, because new weights are written
            beside the old ones.
        kept_bytes: size of what is written once, such as the base of an adapter.

    Raises:
        ValueError: neither has room.
    """
    needed = 2 * weights_bytes + kept_bytes + _SPARE_BYTES
    parents = _parents()
    free = {parent: shutil.disk_usage(parent).free for parent in parents}
    chosen = next((parent for parent in parents if free[parent] >= needed), None)
    if chosen is None:
        there = ", ".join(f"{parent} has {_size(left)}" for parent, left in free.items())
        raise ValueError(
            f"the served weights need {_size(needed)} free, as new ones are written beside the "
            f"old ones: {there}; free space there, or name a larger folder in TMPDIR"
        )
    if chosen != parents[0]:
        logging.getLogger(__name__).warning(
            "%s has %s free, and the served weights need %s, as new ones are written beside the "
            "old ones: they go to %s, where a sync takes longer",
            *(parents[0], _size(free[parents[0]]), _size(needed), chosen),
        )
    return chosen


def remove_stale_folders() -> None:
    """Delete this user's folders whose process has ended, however it ended.

    Other users' folders stay, and so do those without a lock file, of earlier versions.
    """
    for folder in chain.from_iterable(parent.glob(f"{_PREFIX}*") for parent in _parents()):
        try:
            status = folder.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            if not (folder / _LOCK).is_file():
                continue
            with hold_lock(folder / _LOCK, "in use"):
                shutil.rmtree(folder)
        except (ValueError, OSError):
            # In use; or another start deletes it right now.
            continue


def _parents() -> list[Path]:
    """Where the folders may be, the best place first."""
    temporary = Path(tempfile.gettempdir())
    return [MEMORY, temporary] if os.access(MEMORY, os.W_OK | os.X_OK) else [temporary]


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
