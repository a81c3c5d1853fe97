"""Make TextWorld games with the package's own challenges and compiler; nothing is downloaded."""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from envs.files import Progress, cached_folder, new_folder
from envs.nearest import hint
from envs.options import checked_int, settings_from

GENERATOR_VERSION = 2
"""Part of the name of cached games: raise it when the same settings come to mean other games."""
SPLITS = ("train", "valid")
CHALLENGES: dict[str, dict[str, Any]] = {
    "tw-simple": {"rewards": "balanced", "goal": "detailed"},
    "tw-coin_collector": {"level": 5},
    "tw-treasure_hunter": {"level": 5},
    "tw-cooking": {"recipe": 1, "take": 1, "open": True, "cook": True},
}
"""The challenges there are, with what is set for them where nobody says otherwise."""

_MOST_GAMES = 50_000
_LARGEST_SEED = 2**31 - 1
_DRAWS_PER_GAME = 20


@dataclass(frozen=True, kw_only=True)
class GameSettings:
    """What to generate: a challenge, its settings, and how many games per split.

    `settings` are those of `tw-make` for that challenge, with `_` for `-`. It takes one to two
    seconds per game.

    Raises:
        ValueError: a value is out of range or not known; the message names its key.
    """

    challenge: str = "tw-treasure_hunter"
    settings: Mapping[str, Any] = field(default_factory=dict)
    train: int = 24
    valid: int = 8
    seed: int = 1

    def __post_init__(self) -> None:
        if self.challenge not in CHALLENGES:
            raise ValueError(
                f"games.challenge: {self.challenge!r} is not known{hint(self.challenge, CHALLENGES)}"
            )
        for key, least, most in (
            ("train", 1, _MOST_GAMES),
            ("valid", 0, _MOST_GAMES),
            ("seed", 0, _LARGEST_SEED),
        ):
            checked_int(f"games.{key}", getattr(self, key), least, most)
        if not isinstance(self.settings, Mapping):
            raise ValueError(
                f"games.settings: {self.settings!r} is not a mapping, for example {{level: 5}}"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "GameSettings":
        """Settings from a config file's mapping; an unknown key is an error that names the nearest
        known one.
        """
        return settings_from(cls, values, "games")


def cached_games(settings: GameSettings, progress: Progress | None = None) -> Path:
    """The folder with the games of these settings in the cache, made at the first call.

    Raises:
        ValueError: see `generate_games`.
    """
    recipe = {"version": GENERATOR_VERSION, **asdict(settings)}
    return cached_folder(
        "textworld", recipe, lambda folder: generate_games(folder, settings, progress)
    )


def generate_games(folder: Path, settings: GameSettings, progress: Progress | None = None) -> None:
    """Write `<folder>/<split>/<challenge>-<number>.z8`, each with its `.json`; no game twice, of
    whatever splits.

    `folder` comes into being at the end, whole; `progress` is called with games done and games in
    all.

    Raises:
        ValueError: `folder` exists and is not empty, or the settings do not make that many
        different games.
    """
    seen: set[str] = set()
    done, total = 0, settings.train + settings.valid
    with new_folder(folder) as partial:
        for split in SPLITS:
            (partial / split).mkdir()
            for index in range(getattr(settings, split)):
                _write_game(
                    partial / split / f"{settings.challenge}-{index:05d}.z8",
                    settings,
                    split,
                    index,
                    seen,
                )
                done += 1
                if progress is not None:
                    progress(done, total)


def _write_game(path: Path, settings: GameSettings, split: str, index: int, seen: set[str]) -> None:
    """Draw games until one is new, and compile it."""
    from textworld.generator.inform7 import (
        CouldNotCompileGameError,
        compile_inform7_game,
        generate_inform7_source,
    )

    for draw in range(_DRAWS_PER_GAME):
        game = _draw(settings, split, _game_seed(settings.seed, split, index, draw))
        # The description of the whole game, with its texts.
        source = generate_inform7_source(game)
        if source not in seen:
            break
    else:
        raise ValueError(
            f"games.{split}: found only {index} different games of {settings.challenge}; ask for fewer games, or for "
            "harder ones (games.settings)"
        )
    seen.add(source)
    game.save(str(path.with_suffix(".json")))
    try:
        compile_inform7_game(source, str(path))
    except (CouldNotCompileGameError, OSError) as error:
        raise ValueError(
            f"games: the compiler in the textworld package cannot make {path.name}: {error}"
        ) from error
    path.with_suffix(".ni").unlink()


def _game_seed(*parts: int | str) -> int:
    """A seed that numpy takes (it refuses what needs more than 32 bits), of its own for each draw
    of each game.
    """
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4]) & _LARGEST_SEED


def _draw(settings: GameSettings, split: str, seed: int) -> Any:
    import textworld
    import textworld.challenges
    from textworld.challenges.registration import CHALLENGES as MAKERS

    _, make, add_arguments = MAKERS[settings.challenge]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    values = _checked_settings(
        settings, {action.dest: action for action in parser._actions if action.dest != "help"}
    )
    if settings.challenge == "tw-cooking" and values["split"] is None:
        values["split"] = split
    options = textworld.GameOptions()
    options.seeds = seed
    try:
        return make(values, options)
    except (ValueError, AssertionError, textworld.generator.QuestGenerationError) as error:
        raise ValueError(
            f"games.settings: {settings.challenge} with {dict(settings.settings)}: {error}"
        ) from error


def _checked_settings(
    settings: GameSettings, actions: Mapping[str, argparse.Action]
) -> dict[str, Any]:
    for key, value in settings.settings.items():
        if key not in actions:
            raise ValueError(
                f"games.settings.{key}: {settings.challenge} has none{hint(key, actions)}"
            )
        choices = actions[key].choices
        if choices is not None and value not in choices:
            raise ValueError(
                f"games.settings.{key}: {value!r} is none of {', '.join(map(str, choices))}"
            )
        if actions[key].type is int and not isinstance(value, int):
            raise ValueError(f"games.settings.{key}: {value!r} is not a whole number")
    standard = {key: action.default for key, action in actions.items()}
    return {**standard, **CHALLENGES[settings.challenge], **settings.settings}
