"""TextWorld's games as a text environment: games made here, or a person's own files."""

import copy
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import gymnasium

from envs.task import Task
from envs.text_env import NOTHING_HAPPENS, TextEnv, reset_needed, task_in
from envs.worlds.textworld_generator import SPLITS, GameSettings, compiled_games

ENV_ID = "textworld"
GENERATED = "generated"

_HEADER_BYTES = 0x40
"""The length of a story file's header."""
_COMMAND_LENGTH = 190
"""How many characters of a command the interpreter reads."""
_BANNER = re.compile(r"^[\s$|\\/_<>]+$")
"""A line of the drawing at the beginning of a game."""
_CHALLENGE = re.compile(r"tw-[a-z_]+")
"""The name of a challenge, at the beginning of a game's uuid."""
_ENDING = re.compile(r"(\s*Would you like to RESTART.*|\n>\s+-= .* =-\d+/\d+\s*)$", re.DOTALL)
"""The question after the end, or a prompt with the screen's status line."""
_COMMAND = re.compile(r"[A-Za-z0-9 ',-]+")
"""The characters that a command may have.

Others mean something to the interpreter. A backslash, for example, may make it wait for ever.
"""
_INTERPRETER_WORDS = re.compile(
    r"\b(q|quit|restart|restore|save|undo|script|transcript|notify|verify|version|superbrief|brief"
    r"|verbose|tw)\b",
    re.IGNORECASE,
)
"""Commands to the interpreter, and to TextWorld's tools in a game.

They would leave the episode or write files.
"""


class TextWorldGames(TextEnv):
    """TextWorld's games, made here from its challenges or read from a person's files.

    They are compiled for the Z-machine and played by its interpreter; the texts are the game's. The
    reward of a command is its share of the game's points, so the return of a won game is 1. A game
    is over when it is won or lost. The interpreter is not thread-safe: use several processes, not
    several threads.
    """

    def __init__(
        self,
        data: str | Sequence[str] = GENERATED,
        games: Mapping[str, Any] | None = None,
        expert: bool = False,
    ) -> None:
        """Choose the games; nothing is made or loaded before `tasks` or `reset`.

        Args:
            data: `generated`, or a folder of `.z8` files with their `.json`, or a list of such
                files. The files of a folder are in its folders `train` and `valid`, or all are for
                training. `~` and `$VARIABLES` are expanded.
            games: for `generated`, the fields of `GameSettings` to set.
            expert: put the next command of a winning policy into `info` as `expert_command`.

        Raises:
            ValueError: a folder or file does not exist, or a field of `games` is unknown or out of
                range.
        """
        if data != GENERATED and games:
            raise ValueError(
                f"games: only for data: {GENERATED}, but data is {data!r}; drop one of the two"
            )
        self._settings = GameSettings.from_mapping(games or {})
        self._games = {} if data == GENERATED else _find_games(data)
        self._with_expert = expert
        self._engine: Any = None
        self._loaded: Path | None = None
        self._score, self._over = 0, True

    def tasks(self, split: str) -> list[Task]:
        """List the games of `train` or `valid`; the difficulty is the length of the walkthrough.

        Raises:
            ValueError: the split is unknown or has no game, or a game file cannot be played.
        """
        return [_task(name, split, path) for name, path in self._files(split).items()]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the game of `options["task"]`. It has no chance, so `seed` changes nothing.

        Raises:
            ValueError: `options` holds no task, or there is no such game.
        """
        gymnasium.Env.reset(self, seed=seed)
        task = task_in(options, ENV_ID)
        path = self._files(task.split).get(task.id)
        if path is None:
            raise ValueError(f"task: no game {task.id!r} of split {task.split!r}")
        self._over = True
        # Loading a game takes far longer than resetting it.
        if path != self._loaded:
            self._load(path)
        state = self._engine.reset()
        self._score, self._over = 0, False
        return plain_text(state["feedback"]), self._info(state)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command. Commands to the interpreter are answered with "Nothing happens.".

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise reset_needed()
        # A newline would start a second command.
        command = " ".join(action.split())
        if command not in self._last_info["admissible_commands"] and not _is_harmless(command):
            return NOTHING_HAPPENS, 0.0, False, False, dict(self._last_info)
        state, score, done = self._engine.step(command)
        reward = (score - self._score) / (state["max_score"] or 1)
        self._score, self._over = score, bool(done)
        return (
            plain_text(state["feedback"]) or NOTHING_HAPPENS,
            reward,
            self._over,
            False,
            self._info(state),
        )

    def close(self) -> None:
        """End the interpreter. The environment may be reset again afterwards."""
        if self._engine is not None:
            self._engine.close()
        self._engine, self._loaded, self._over = None, None, True

    def clone(self) -> Self:
        # The engine wraps a C library, so it has its own way to copy.
        twin = copy.copy(self)
        if self._engine is not None:
            twin._engine = self._engine.copy()
        return twin

    def _files(self, split: str) -> dict[str, Path]:
        if split not in SPLITS:
            raise ValueError(f"split: {split!r} is none of {', '.join(SPLITS)}")
        if not self._games:
            self._games = _find_games(str(compiled_games(self._settings)))
        files = self._games.get(split)
        if not files:
            raise ValueError(
                f"split: {split!r} has no game; put .z8 files with their .json into a folder "
                f"{split!r}"
            )
        return files

    def _load(self, path: Path) -> None:
        import textworld

        self._loaded = None  # and it stays None if the loading fails
        _check_story(path)
        if self._engine is None:
            infos = textworld.EnvInfos(
                won=True,
                score=True,
                max_score=True,
                admissible_commands=True,
                policy_commands=self._with_expert,
            )
            self._engine = _load_game(path, lambda: textworld.start(str(path), infos))
        else:
            _load_game(path, lambda: self._engine.load(str(path)))
        self._loaded = path

    def _info(self, state: Any) -> dict[str, Any]:
        info: dict[str, Any] = {
            "success": bool(state["won"]),
            "admissible_commands": list(state["admissible_commands"]),
        }
        if self._with_expert and not self._over and state["policy_commands"]:
            info["expert_command"] = state["policy_commands"][0]
        self._last_info = info
        return info


def _is_harmless(command: str) -> bool:
    """Whether the interpreter passes a command on to the game."""
    if len(command) > _COMMAND_LENGTH or _COMMAND.fullmatch(command) is None:
        return False
    return _INTERPRETER_WORDS.search(command) is None


def plain_text(feedback: str) -> str:
    """A game's text without banner, status line and the question at the end."""
    lines = []
    for raw_line in _ENDING.sub("", feedback).splitlines():
        line = raw_line.strip()
        if not _BANNER.match(line):
            lines.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _find_games(data: str | Sequence[str]) -> dict[str, dict[str, Path]]:
    """The games of each split by name; all are for training if `data` is not a folder of splits."""
    if not isinstance(data, str):
        return {"train": _by_name([Path(os.path.expandvars(name)).expanduser() for name in data])}
    folder = Path(os.path.expandvars(data)).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"env.options: data: {data!r} is not a folder; name one with .z8 files, or write "
            f"{GENERATED}"
        )
    inside = [split for split in SPLITS if (folder / split).is_dir()]
    if not inside:
        return {"train": _by_name(_games_in(folder))}
    return {split: _by_name(_games_in(folder / split)) for split in inside}


def _games_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.suffix in (".z8", ".ulx")]


def _by_name(paths: Sequence[Path]) -> dict[str, Path]:
    """The games by their file names.

    Raises:
        ValueError: a game cannot be played, or two have the same name.
    """
    for path in paths:
        if path.suffix != ".z8":
            raise ValueError(
                f"{path}: only games for the Z-machine (.z8) can be played: a .ulx needs a "
                "TextWorld before 1.7, and a .json alone has no texts; make it again with "
                "`tw-make ... --format z8`"
            )
        for needed in (path, path.with_suffix(".json")):
            if not needed.is_file():
                raise ValueError(
                    f"{needed}: no such file; a TextWorld game is a .z8 with its .json next to it"
                )
    games = {path.stem: path.resolve() for path in sorted(paths)}
    if len(games) < len(paths):
        raise ValueError("env.options: data: two of the files have the same name; rename one")
    return games


def _check_story(path: Path) -> None:
    """Check the header and the checksum of a story file.

    On a damaged file, the interpreter would end the process.

    Raises:
        ValueError: the file is damaged.
    """
    # The Z-machine standard: byte 0 is the version, bytes 0x1A-0x1B the length of the file in units
    # of 8 bytes, bytes 0x1C-0x1D the sum of all bytes after the header, modulo 0x10000.
    story = path.read_bytes()
    length = 8 * int.from_bytes(story[0x1A:0x1C])
    checksum = int.from_bytes(story[0x1C:0x1E])
    if len(story) < _HEADER_BYTES or story[0] != 8 or not _HEADER_BYTES <= length <= len(story):
        raise _broken(path, "cut off, or another kind of file")
    if sum(story[_HEADER_BYTES:length]) % 0x10000 != checksum:
        raise _broken(path, "its checksum is wrong")


def _load_game(path: Path, load: Callable[[], Any]) -> Any:
    """Return `load()`; an error in the game's description becomes a ValueError."""
    try:
        return load()
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # On a description that it cannot read, textworld raises KeyError, its parser's errors, and
        # others.
        raise _broken(path.with_suffix(".json"), f"{type(error).__name__}: {error}") from error


def _broken(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path}: not a usable TextWorld game ({reason}); delete it, or make it again"
    )


def _task(name: str, split: str, path: Path) -> Task:
    described = path.with_suffix(".json")
    try:
        metadata = json.loads(described.read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{described}: not the description of a TextWorld game ({error}); make it again"
        ) from error
    challenge = _CHALLENGE.match(str(metadata.get("uuid")))
    return Task(
        env_id=ENV_ID,
        split=split,
        family=challenge.group() if challenge else ENV_ID,
        id=name,
        difficulty=len(metadata.get("walkthrough") or ()),
    )
