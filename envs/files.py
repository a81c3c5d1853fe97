"""What generators of games share: a cache of generated games, and folders that are written whole."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]
"""Called with the games done and the games in all."""


def cache_root() -> Path:
    """The folder for everything that can be made again: `$AGENT_RL_CACHE`, or `~/.cache/agent_rl`."""
    return Path(os.environ.get("AGENT_RL_CACHE") or "~/.cache/agent_rl").expanduser()


def cached_folder(kind: str, recipe: Mapping[str, Any], generate: Callable[[Path], object]) -> Path:
    """The folder of what `recipe` describes, under `cache_root() / kind`; `generate` makes it at
    the first call.
    """
    text = json.dumps(recipe, sort_keys=True)
    folder = cache_root() / kind / hashlib.sha256(text.encode()).hexdigest()[:16]
    if folder.is_dir():
        return folder
    try:
        generate(folder)
    except (OSError, ValueError):
        # Another process was quicker: its folder is whole, since it came into being by one rename.
        if not folder.is_dir():
            raise
    return folder


@contextmanager
def appearing_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end, and nothing if the filling fails.

    Raises:
        ValueError: `folder` exists and is not empty.
    """
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder}: already there and not empty; delete it or choose another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(
        tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-", suffix=".partial")
    )
    try:
        yield partial
        partial.chmod(0o755)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
