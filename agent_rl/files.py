"""Files and folders of runs: written whole or not at all, set aside, locked. Light to import."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import envs.files
from agent_rl.config import ConfigError
from envs.files import UNFINISHED, is_disk_full, naming_full_disk, read_json_object, whole_file

__all__ = [
    "UNFINISHED",
    "is_disk_full",
    "locked",
    "naming_full_disk",
    "read_json_object",
    "restore_replaced",
    "set_aside",
    "short_digest",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_text",
]


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
    replaced = _replaced(path)
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


def restore_replaced(path: Path) -> None:
    """Put a folder back that a `whole_folder` was about to replace when its process was killed."""
    path = path.resolve()
    if not path.exists() and _replaced(path).is_dir():
        os.rename(_replaced(path), path)


def _replaced(path: Path) -> Path:
    """The name of the folder at `path` until the new one has its place."""
    return path.with_name(f"{path.name}{UNFINISHED}replaced")


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
    """As `envs.files.hold_lock`.

    Raises:
        ConfigError: another process holds the lock.
    """
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(envs.files.hold_lock(lock_file, busy, wait_seconds))
        except ValueError as error:
            raise ConfigError(busy) from error
        yield descriptor


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
