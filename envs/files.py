"""Files that are written whole or not at all, and the cache of all that can be made again."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"
"""Comes after a path's name while it is written, before the number of the process."""

Progress = Callable[[int, int], None]
"""A callback of generators: it gets the number of games made and the number of all games."""


def cache_root() -> Path:
    """The folder for all that can be made again: `$AGENT_RL_CACHE` or `~/.cache/agent_rl`."""
    return Path(os.environ.get("AGENT_RL_CACHE") or "~/.cache/agent_rl").expanduser()


def cached_folder(kind: str, recipe: Mapping[str, Any], generate: Callable[[Path], object]) -> Path:
    """Return the cached folder of a recipe; the first call makes it.

    Args:
        kind: the folder's parent under `cache_root()`.
        recipe: the values that determine the contents, as JSON; equal recipes share a folder.
        generate: fills the folder that it is given, by `new_folder`.
    """
    text = json.dumps(recipe, sort_keys=True)
    folder = cache_root() / kind / hashlib.sha256(text.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    try:
        generate(folder)
    except (OSError, ValueError):
        # Another process may have made the folder meanwhile. It is complete, since `new_folder`
        # renames a folder only when it is full.
        if not folder.is_dir():
            raise
    return folder


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
        yield partial
        # mkdtemp makes it readable for its owner only; generated games may be shared.
        partial.chmod(0o755)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that a file system is full, or a quota is used up.

    Libraries in Rust and C++ have errors of their own, with the system's words in them.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


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
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
