"""Files and folders of runs: written whole or not at all, set aside, locked. Light to import."""

import fcntl
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from agent_rl.config import ConfigError
from envs.files import UNFINISHED, is_disk_full, naming_full_disk, read_json_object, whole_file

__all__ = [
    "UNFINISHED",
    "is_disk_full",
    "locked",
    "naming_full_disk",
    "read_json_object",
    "set_aside",
    "short_digest",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]

_POLL_SECONDS = 0.2


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def whole_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill, which is renamed to `path` at the end.

    If the filling fails, the folder is deleted and `path` stays as it was. All files are forced to
    disk before the rename, so a power cut leaves no folder with empty files. A link is followed.

    Args:
        path: the folder to make.
        replace: whether a folder at `path` is replaced; else it has to be empty.

    Raises:
        ConfigError: without `replace`, there are files at `path`.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}{UNFINISHED}{os.getpid()}")
    replaced = path.with_name(f"{path.name}{UNFINISHED}replaced")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed process with the same number
    unfinished.mkdir()
    try:
        with naming_full_disk(path):
            yield unfinished
        for inner in [*unfinished.rglob("*"), unfinished]:
            _sync(inner)
        if not replace and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(f"{path}: exists already; delete it or name another folder")
        if path.exists():
            # One folder cannot be renamed onto another: the old one is renamed first, then deleted.
            shutil.rmtree(replaced, ignore_errors=True)
            os.rename(path, replaced)
        os.rename(unfinished, path)
        _sync(path.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def set_aside(path: Path, why: str) -> Path | None:
    """Rename a file or folder to the next free name of `NAME.WHY-1`, `NAME.WHY-2` and so on.

    So nothing that a person may want is deleted, and nothing reads the new name.

    Returns:
        The new path, or None if there is nothing at `path`.
    """
    if not path.exists():
        return None
    names = (path.with_name(f"{path.name}.{why}-{number}") for number in count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    return aside


@contextmanager
def locked(lock_file: Path, busy: str, *, wait_seconds: float = 0.0) -> Iterator[int]:
    """Hold an exclusive lock within a `with` block. A kill of the process releases it too.

    Yields the lock's file descriptor: a child that inherits it holds the lock too, until it ends.
    (The `filelock` package keeps its descriptor private, so it cannot be handed to a child.)

    Args:
        lock_file: is created with its folder, and stays.
        busy: the error's message.
        wait_seconds: how long to wait for another process to release it.

    Raises:
        ConfigError: another process holds it.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    limit = time.monotonic() + wait_seconds
    with lock_file.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() >= limit:
                    raise ConfigError(busy) from error
                time.sleep(_POLL_SECONDS)
            except OSError as error:
                # Some network file systems have no locks. That is no reason not to work there.
                warnings.warn(
                    f"{lock_file}: cannot be locked ({error}); make sure that no other process "
                    "works in this folder",
                    stacklevel=3,
                )
                break
        yield file.fileno()


def short_digest(value: Any) -> str:
    """Return eight hexadecimal digits that identify a JSON value.

    The order of keys does not count. A value that JSON does not have counts by its `str`.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


def _sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
