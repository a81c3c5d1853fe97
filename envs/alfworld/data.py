"""ALFWorld games in a folder: finds the folder, lists the games of a split, reads a game file."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.alfworld.names import FAMILIES, SPLITS
from envs.files import cache_root, write_cached_file

DATA_VERSION = "json_2.1.1"
GAME_FILE = "game.tw-pddl"

_WAY_OUT = (
    "generate games (`agent-rl games generate`) or unpack the published ALFWorld data "
    "and point to it"
)
_PLAYABLE_KEYS = ("pddl_domain", "grammar", "pddl_problem")


def resolve_data_folder(data: str) -> Path:
    """The folder that holds the split folders.

    Args:
        data: that folder or the one around it, in which `~` and `$VARIABLES` are expanded.

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
    """One game of a split."""

    id: str
    """`<folder>/<trial>`: `pick_and_place_simple-Mug-None-Desk-301/trial_1`."""
    family: str
    scene: str
    """The floor plan's number."""
    commands: int
    """The length of its walkthrough."""


def index_games(folder: Path, split: str) -> list[IndexedGame]:
    """The solvable games of a split, sorted by id.

    As in ALFWorld's own loader, games with a movable receptacle or a sliced object do not count,
    and neither do games that are not marked solvable. That mark is inside the file, in 100 KB of
    text. A cache file therefore keeps the needed values; new and changed game files are read again.

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
        entry = cached.get(game_id)
        if entry is None or entry[:2] != [stat.st_size, stat.st_mtime_ns]:
            game = read_game(path)
            is_solvable = int(game.get("solvable") is True)
            walkthrough = game.get("walkthrough") or []
            if not isinstance(walkthrough, list):
                raise broken_game(path, f"walkthrough: {walkthrough!r} is no list of commands")
            entry = [stat.st_size, stat.st_mtime_ns, is_solvable, len(walkthrough)]
        entries[game_id] = entry
    if entries != cached:
        write_cached_file(cache_file, json.dumps(entries))
    games = []
    for game_id, (_, _, solvable, commands) in sorted(entries.items()):
        if solvable:
            family, scene = family_of(game_id), scene_of(game_id)
            games.append(IndexedGame(id=game_id, family=family, scene=scene, commands=commands))
    if not games:
        raise ValueError(f"data: no solvable game under {str(folder / split)!r}; {_WAY_OUT}")
    return games


def family_of(game_id: str) -> str:
    """The family in a game's id, `family-Object-MovableReceptacle-Receptacle-scene/trial`.

    Raises:
        ValueError: the id does not begin with a family.
    """
    family = game_id.partition("-")[0]
    if family not in FAMILIES:
        raise ValueError(
            f"game {game_id!r}: the folder's name does not begin with one of "
            f"{', '.join(FAMILIES)}; move it out of the data folder, or give it its old name again"
        )
    return family


def scene_of(game_id: str) -> str:
    """The floor plan's number, at the end of the folder's name."""
    return game_id.partition("/")[0].rpartition("-")[2]


def game_path(folder: Path, split: str, game_id: str) -> Path:
    """The file of a game.

    Raises:
        ValueError: there is no such game.
    """
    path = folder / split / game_id / GAME_FILE
    # The pattern keeps an id like "../../secret" from leading out of the data folder.
    if split not in SPLITS or not re.fullmatch(r"[\w.-]+/[\w.-]+", game_id) or not path.is_file():
        raise ValueError(f"task: no game {game_id!r} of split {split!r} under {str(folder)!r}")
    return path


def read_game(path: Path) -> dict[str, Any]:
    """The contents of a game file, which has at least the keys that are needed to play it.

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
    """The error for a game file that cannot be used; `what` says what is wrong with it."""
    return ValueError(
        f"{path}: not a usable ALFWorld game ({what}); delete it, or download or generate it again"
    )


def game_folders(split_folder: Path) -> Iterator[tuple[str, Path]]:
    """The id and the folder of every game of a split that counts by its name."""
    if not split_folder.is_dir():
        return
    for task_folder in os.scandir(split_folder):
        if not _counts(task_folder):
            continue
        for trial in os.scandir(task_folder.path):
            if _counts(trial):
                yield f"{task_folder.name}/{trial.name}", Path(trial.path)


def _counts(folder: os.DirEntry[str]) -> bool:
    """Whether ALFWorld's own loader reads this folder."""
    return folder.is_dir() and "movable" not in folder.name and "Sliced" not in folder.name


def _game_files(split_folder: Path) -> Iterator[tuple[str, Path]]:
    for game_id, folder in game_folders(split_folder):
        path = folder / GAME_FILE
        if path.is_file():
            family_of(game_id)  # raises, instead of leaving out a misnamed game in silence
            yield game_id, path


def _cache_file(folder: Path, split: str) -> Path:
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return cache_root() / "index" / f"{digest}-{split}.json"


def _read_cache(path: Path) -> dict[str, list[int]]:
    """By game id: `[size, mtime in ns, solvable, commands]`.

    Empty if the file is missing or damaged; a damaged entry is left out.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {game_id: entry for game_id, entry in entries.items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    is_row = isinstance(entry, list) and len(entry) == 4
    return is_row and all(isinstance(value, int) for value in entry)
