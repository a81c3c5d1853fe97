"""Make TextWorld games with the package's own challenges and compiler; nothing is downloaded."""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from envs.files import Progress, cached_folder, new_folder
from envs.nearest import hint
from envs.options import checked_int, read_as, settings_from

GENERATOR_VERSION = 2
"""A part of the name of cached games. Raise it when the same settings give other games."""
SPLITS = ("train", "valid")
CHALLENGES: dict[str, dict[str, Any]] = {
    "tw-simple": {"rewards": "balanced", "goal": "detailed"},
    "tw-coin_collector": {"level": 5},
    "tw-treasure_hunter": {"level": 5},
    "tw-cooking": {"recipe": 1, "take": 1, "open": True, "cook": True},
}
"""The challenges, with the settings that differ from `tw-make`'s defaults."""

_LARGEST_GAME_COUNT = 50_000
_LARGEST_SEED = 2**31 - 1
_DRAWS_PER_GAME = 20
"""How many games are drawn until one is new."""


@dataclass(frozen=True, kw_only=True)
class GameSettings:
    """Settings of generated games. Making a game takes one to two seconds.

    Raises:
        ValueError: a value is out of range or unknown; the message names its key.
    """

    challenge: str = "tw-treasure_hunter"
    """One of TextWorld's challenges, a key of `CHALLENGES`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The options of `tw-make` for this challenge, with `_` for `-`; `CHALLENGES` has defaults."""
    train: int = 24
    """How many games to train on."""
    valid: int = 8
    """How many games to hold out."""
    seed: int = 1
    """The seed from which all games are drawn."""

    def __post_init__(self) -> None:
        if self.challenge not in CHALLENGES:
            suggestion = hint(self.challenge, CHALLENGES)
            raise ValueError(f"games.challenge: {self.challenge!r} is not known{suggestion}")
        checked_int("games.train", self.train, 1, _LARGEST_GAME_COUNT)
        checked_int("games.valid", self.valid, 0, _LARGEST_GAME_COUNT)
        checked_int("games.seed", self.seed, 0, _LARGEST_SEED)
        if not isinstance(self.settings, Mapping):
            raise ValueError(
                f"games.settings: {self.settings!r} is not a mapping, for example {{level: 5}}"
            )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "GameSettings":
        """Make settings from the mapping `games` of a config file."""
        return settings_from(cls, values, "games")


def compiled_games(settings: GameSettings, progress: Progress | None = None) -> Path:
    """Return the cached folder with the games of these settings; the first call makes them.

    Raises:
        ValueError: see `compile_games`.
    """
    recipe = {"version": GENERATOR_VERSION, **asdict(settings)}
    return cached_folder(
        "textworld", recipe, lambda folder: compile_games(folder, settings, progress)
    )


def compile_games(folder: Path, settings: GameSettings, progress: Progress | None = None) -> None:
    """Write `<folder>/<split>/<challenge>-<number>.z8`, each with its `.json`.

    No two games of all splits are equal.

    Args:
        folder: comes into being when all games are made.
        settings: the games to make.
        progress: called after each game.

    Raises:
        ValueError: `folder` exists and is not empty, or there are not that many different games.
    """
    sources: set[str] = set()
    done, total = 0, settings.train + settings.valid
    with new_folder(folder) as partial:
        for split, count in (("train", settings.train), ("valid", settings.valid)):
            (partial / split).mkdir()
            for index in range(count):
                path = partial / split / f"{settings.challenge}-{index:05d}.z8"
                _write_game(path, settings, split, index, sources)
                done += 1
                if progress is not None:
                    progress(done, total)


def _write_game(
    path: Path, settings: GameSettings, split: str, index: int, sources: set[str]
) -> None:
    """Draw games until one is new, and compile it.

    Args:
        path: the `.z8` file to write.
        settings: the games to make.
        split: the game's split.
        index: its number in the split.
        sources: the sources of the games so far; the new one is added.
    """
    from textworld.generator.inform7 import (
        CouldNotCompileGameError,
        compile_inform7_game,
        generate_inform7_source,
    )

    for draw in range(_DRAWS_PER_GAME):
        game = _draw(settings, split, _game_seed(settings.seed, split, index, draw))
        # The source describes the whole game, with its texts: equal sources are equal games.
        source = generate_inform7_source(game)
        if source not in sources:
            break
    else:
        raise ValueError(
            f"games.{split}: found only {index} different games of {settings.challenge}; ask for "
            "fewer games, or for harder ones (games.settings)"
        )
    sources.add(source)
    game.save(str(path.with_suffix(".json")))
    try:
        compile_inform7_game(source, str(path))
    except (CouldNotCompileGameError, OSError) as error:
        raise ValueError(
            f"games: the compiler in the textworld package cannot make {path.name}: {error}"
        ) from error
    path.with_suffix(".ni").unlink()  # the compiler leaves the source behind


def _game_seed(*parts: int | str) -> int:
    """Make the seed of one draw of one game; it fits into 31 bits, since numpy needs that."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4]) & _LARGEST_SEED


def _draw(settings: GameSettings, split: str, seed: int) -> Any:
    """Draw one game of the challenge."""
    import textworld
    import textworld.challenges
    from textworld.challenges.registration import CHALLENGES as MAKERS

    _, make, add_arguments = MAKERS[settings.challenge]
    # The challenges declare their options for the command `tw-make`: names, types, defaults.
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    actions = {action.dest: action for action in parser._actions if action.dest != "help"}
    values = _checked_settings(settings, actions)
    # tw-cooking has different ingredients for training and for validation.
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
    """All options of the challenge, with the defaults of those that are not set.

    Raises:
        ValueError: an option is unknown, or its value does not fit.
    """
    chosen: dict[str, Any] = {}
    for key, setting in settings.settings.items():
        if key not in actions:
            raise ValueError(
                f"games.settings.{key}: {settings.challenge} has none{hint(key, actions)}"
            )
        # A switch of the command line has no type, but a value that it sets.
        kind = actions[key].type or type(actions[key].const)
        value = chosen[key] = read_as(kind, f"games.settings.{key}", setting)
        choices = actions[key].choices
        if choices is not None and value not in choices:
            raise ValueError(
                f"games.settings.{key}: {value!r} is none of {', '.join(map(str, choices))}"
            )
    defaults = {key: action.default for key, action in actions.items()}
    return {**defaults, **CHALLENGES[settings.challenge], **chosen}
