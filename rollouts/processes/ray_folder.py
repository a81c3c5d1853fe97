"""Where Ray keeps its sockets and logs: the temporary folder, or a better one if that cannot be."""

import logging
import os
import shutil
import sys
from pathlib import Path

_LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107
"""The most bytes in the path of a socket."""
_WITHIN = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""The bytes of Ray's longest socket after the temporary folder's path."""
_LEAST_FREE_BYTES = 16 * 2**20
_OTHERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))


def ray_folder() -> Path:
    """Return the folder for Ray: `ray` in `$RAY_TMPDIR`, `$TMPDIR` or `/tmp`.

    If it cannot be used, one of the system's other temporary folders is, and one line says so.

    Raises:
        ValueError: none can be used.
    """
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), "TMPDIR")
    asked = Path(os.environ.get(variable) or "/tmp").absolute()
    reason = _unfit(asked)
    if reason is None:
        return asked / "ray"
    said = f"temporary folder {asked} ({variable}): {reason}"
    other = next((folder for folder in _OTHERS if _unfit(folder) is None), None)
    if other is None:
        raise ValueError(f"{said}; set RAY_TMPDIR to a folder that Ray can use")
    logging.getLogger(__name__).warning(
        "%s; Ray uses %s instead, or the folder in RAY_TMPDIR", said, other
    )
    return other / "ray"


def _unfit(folder: Path) -> str | None:
    """Why Ray cannot use a temporary folder; None if it can."""
    longest = _LONGEST_SOCKET - _WITHIN
    if len(os.fsencode(folder)) > longest:
        return f"its path is too long for sockets ({longest} bytes are the most)"
    # Ray makes what is missing.
    there = folder / "ray"
    while not os.path.exists(there):
        there = there.parent
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        return "it cannot be written"
    free = shutil.disk_usage(there).free
    if free < _LEAST_FREE_BYTES:
        return f"it is full ({free / 2**20:.0f} MiB free)"
    return None
