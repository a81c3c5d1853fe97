"""ALFWorld games in a folder: where they are, which of them count, and what one file holds."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.alfworld.names import FAMILIES, SPLITS
from envs.files import cache_root, whole_file

DATA_VERSION = "json_2.1.1"
GAME_FILE = "game.tw-pddl"

_WAY_OUT = "generate games (`agent-rl games generate`) or unpack the official ALFWorld data and point to it"
_PLAYABLE_KEYS = ("pddl_domain", "grammar", "pddl_problem")


def resolve_data_folder(data: str) -> Path:
    """The folder that holds the split folders, from a path that may hold `~` and `$VARIABLES`.

    Raises:
        ValueError: `data` is empty, a variable in it is unset or empty, or there is no such folder.
    """
    if not data.strip():
        raise ValueError(f"data: the folder of the games is empty; {_WAY_OUT}")
    for braced, plain in re.findall(r"\$(?:\{(\w+)\}|(\w+))", data):
        name = braced or plain
        if not os.environ.get(name, "").strip():
            state = "empty" if name in os.environ else "not set"
            raise ValueError(
                f"data: {data!r}: the environment variable {name} is {state}; {_WAY_OUT}"
            )
    folder = Path(os.path.expandvars(data)).expanduser()
    if not folder.is_dir():
        raise ValueError(f"data: {str(folder)!r} is not a folder; {_WAY_OUT}")
    versioned = folder / DATA_VERSION
    return (versioned if versioned.is_dir() else folder).resolve()


@dataclass(frozen=True, kw_only=True)
class IndexedGame:
    """One game of a split. `id` is `<folder>/<trial>`; `commands` is the length of its walkthrough."""

    id: str
    family: str
    scene: str
    commands: int


def index_games(folder: Path, split: str) -> list[IndexedGame]:
    """The solvable games of a split, sorted by id.

    As in ALFWorld's own loader, games with a movable receptacle or a sliced object do not count,
    and neither do games that are not marked solvable. What is not in a game's name sits in 100 KB
    of text, so it is kept in a cache file; a game file that is new or has changed is read again.

    Raises:
        ValueError: the split is not known or holds no game, or a game file cannot be read.
    """
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {', '.join(SPLITS)}")
    cache_file = _cache_file(folder, split)
    cached = _read_cache(cache_file)
    entries: dict[str, list[int]] = {}
    for game_id, path in _game_files(folder / split):
        stat = path.stat()
        known = cached.get(game_id)
        if known is None or known[:2] != [stat.st_size, stat.st_mtime_ns]:
            game = read_game(path)
            solvable, commands = game.get("solvable") is True, len(game.get("walkthrough") or ())
            known = [stat.st_size, stat.st_mtime_ns, int(solvable), commands]
        entries[game_id] = known
    if entries != cached:
        _write_cache(cache_file, entries)
    games = [
        IndexedGame(
            id=game_id, family=family_of(game_id), scene=_scene_of(game_id), commands=commands
        )
        for game_id, (_, _, solvable, commands) in sorted(entries.items())
        if solvable
    ]
    if not games:
        raise ValueError(f"data: no solvable game under {str(folder / split)!r}; {_WAY_OUT}")
    return games


def family_of(game_id: str) -> str:
    """The family, from the folder's name `family-Object-MovableReceptacle-Receptacle-scene`."""
    family = game_id.partition("-")[0]
    if family not in FAMILIES:
        raise ValueError(
            f"game {game_id!r}: the folder's name does not begin with one of {', '.join(FAMILIES)}; move it out of the "
            "data folder, or give it the name that it had"
        )
    return family


def _scene_of(game_id: str) -> str:
    """The floor plan's number, which ends the folder's name."""
    return game_id.partition("/")[0].rpartition("-")[2]


def game_path(folder: Path, split: str, game_id: str) -> Path:
    """The file of a game.

    Raises:
        ValueError: there is no such game.
    """
    path = folder / split / game_id / GAME_FILE
    if split not in SPLITS or not re.fullmatch(r"[\w.-]+/[\w.-]+", game_id) or not path.is_file():
        raise ValueError(f"task: no game {game_id!r} of split {split!r} under {str(folder)!r}")
    return path


def read_game(path: Path) -> dict[str, Any]:
    """The contents of a game file, with at least the keys that are needed to play it.

    Raises:
        ValueError: the file is cut off, is no game, or cannot be read.
    """
    try:
        game = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise broken_game(path, str(error)) from error
    if not isinstance(game, dict):
        game = {}
    missing = [key for key in _PLAYABLE_KEYS if not isinstance(game.get(key), str)]
    if missing:
        raise broken_game(path, f"no text under {', '.join(missing)}")
    return game


def broken_game(path: Path, what: str) -> ValueError:
    """The error for a game file that cannot be used: names it, says what is wrong and what to do."""
    return ValueError(
        f"{path}: not a usable ALFWorld game ({what}); delete it, or download or generate it again"
    )


def game_folders(split_folder: Path) -> Iterator[tuple[str, Path]]:
    """Id and folder of every game of a split that counts by its name."""
    if not split_folder.is_dir():
        return
    for task_folder in os.scandir(split_folder):
        if (
            "movable" in task_folder.name
            or "Sliced" in task_folder.name
            or not task_folder.is_dir()
        ):
            continue
        for trial in os.scandir(task_folder.path):
            if "movable" not in trial.name and "Sliced" not in trial.name and trial.is_dir():
                yield f"{task_folder.name}/{trial.name}", Path(trial.path)


def _game_files(split_folder: Path) -> Iterator[tuple[str, Path]]:
    for game_id, folder in game_folders(split_folder):
        path = folder / GAME_FILE
        if path.is_file():
            family_of(game_id)
            yield game_id, path


def _cache_file(folder: Path, split: str) -> Path:
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_root() / "index" / f"{digest}-{split}.json"


def _read_cache(path: Path) -> dict[str, list[int]]:
    """Entries `[size, mtime in ns, solvable, commands]` by game id; nothing where the file is
    missing or damaged.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {
        game_id: entry
        for game_id, entry in entries.items()
        if isinstance(entry, list)
        and len(entry) == 4
        and all(isinstance(value, int) for value in entry)
    }


def _write_cache(path: Path, entries: dict[str, list[int]]) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(entries), encoding="utf-8")
