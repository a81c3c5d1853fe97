"""Files that are written whole or not at all, and the cache of all that can be made again."""

import errno
import fcntl
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CACHE_REMEDY = "set the environment variable AGENT_RL_CACHE to a folder that can be written"

UNFINISHED = ".unfinished-"
"""Comes after a path's name while it is written, before the number of the process."""

_TORCH_WRITES_NOTHING = ("] . unexpected pos", "PytorchStreamWriter failed writing file")
"""What `torch.save` says of a full disk."""

_POLL_SECONDS = 0.2
"""Between two tries to get a lock."""

Progress = Callable[[int, int], None]
"""A callback of generators: it gets the number of games made and the number of all games."""


def cache_root() -> Path:
    """The folder for all that can be made again: `$AGENT_RL_CACHE` or `~/.cache/agent_rl`.

    Raises:
        ValueError: the home folder is not known.
    """
    folder = os.environ.get("AGENT_RL_CACHE") or "~/.cache/agent_rl"
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise ValueError(f"cache folder {folder}: {error}; {_CACHE_REMEDY}") from error


def cached_folder(kind: str, recipe: Mapping[str, Any], generate: Callable[[Path], object]) -> Path:
    """Return the cached folder of a recipe; the first call makes it.

    Args:
        kind: the folder's parent under `cache_root()`.
        recipe: the values that determine the contents, as JSON; equal recipes share a folder.
        generate: fills the folder that it is given, by `new_folder`.

    Raises:
        ValueError: the folder is not there and the cache cannot be written. The message names
            AGENT_RL_CACHE.
    """
    text = json.dumps(recipe, sort_keys=True)
    folder = cache_root() / kind / hashlib.sha256(text.encode()).hexdigest()[:16]
    if os.path.isdir(folder):
        return folder
    try:
        # Before the generator's work, and apart from its own errors.
        folder.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder.parent).close()
    except OSError as error:
        raise ValueError(f"{_unwritable(error)}; {_CACHE_REMEDY}") from error
    try:
        generate(folder)
    except (OSError, ValueError) as error:
        # Another process may have made the folder meanwhile. It is complete, since `new_folder`
        # renames a folder only when it is full.
        if not folder.is_dir():
            if is_disk_full(error):
                raise ValueError(f"{_unwritable(error)}; {_CACHE_REMEDY}") from error
            raise
    return folder


def write_cached_file(path: Path, text: str) -> None:
    """Write a file of the cache that only saves time, whole or not at all.

    If the cache cannot be written, one line says so, once in a process.
    """
    try:
        with whole_file(path) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    except OSError as error:
        _warn_once(f"{_unwritable(error)}, so this is read anew each time; {_CACHE_REMEDY}")


@functools.cache
def _warn_once(message: str) -> None:
    logging.getLogger(__name__).warning(message)


def _unwritable(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"cache folder {cache_root()}: cannot be written ({reason})"


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which is renamed to `folder` at the end.

    If the filling fails, `folder` does not come into being.

    Raises:
        ValueError: `folder` exists and is not empty.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder}: already there and not empty; delete it or choose another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}{UNFINISHED}"))
    try:
        with naming_full_disk(folder):
            yield partial
        # mkdtemp makes it readable for its owner only; generated games may be shared.
        partial.chmod(0o755)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        ValueError: the file is damaged, or holds anything else.
    """
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: damaged, no JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: damaged, it holds no JSON object; copy it again")
    return value


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that a file system is full, or a quota is used up.

    Libraries in Rust and C++ have errors of their own, with the system's words in them.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    words = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), *_TORCH_WRITES_NOTHING)
    return any(word in str(error) for word in words)


@contextmanager
def naming_full_disk(path: str | Path) -> Iterator[None]:
    """Name `path` in the error if the disk is full within the `with` block.

    Neither a file that is open nor a library in Rust or C++ names it.

    Raises:
        OSError: the disk is full; `filename` is the path.
    """
    try:
        yield
    except Exception as error:
        if not is_disk_full(error) or getattr(error, "filename", None):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to, which replaces `path` at the end.

    A reader sees the old file or the new one, never a part. If the writing fails, the old file
    stays. A link is followed. A pipe or a device is written directly, because it cannot be
    replaced. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    unfinished = path.with_name(f"{path.name}{UNFINISHED}{os.getpid()}")
    try:
        with naming_full_disk(path):
            yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def hold_lock(lock_file: Path, busy: str, wait_seconds: float = 0.0) -> Iterator[int]:
    """Hold an exclusive lock within a `with` block. A kill of the process releases it too.

    Yields the lock's file descriptor: a child that inherits it holds the lock too, until it ends.
    (The `filelock` package keeps its descriptor private, so it cannot be handed to a child.)

    Args:
        lock_file: is created with its folder, and stays.
        busy: the error's message.
        wait_seconds: how long to wait for another process to release it.

    Raises:
        ValueError: another process holds it.
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
                    raise ValueError(busy) from error
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


def is_locked(lock_file: Path) -> bool:
    """Whether another process holds the lock just now, as `hold_lock` does; no file is made."""
    if not lock_file.is_file():
        return False
    with lock_file.open() as file:
        try:
            # Shared: two that ask at the same time do not take each other for a holder.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False  # A network file system without locks cannot tell.
    return False
