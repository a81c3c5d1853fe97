"""Make ALFWorld games from what the alfworld package ships, so that nothing need be downloaded."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from envs.alfworld.data import DATA_VERSION, GAME_FILE
from envs.alfworld.generator.draw import draw_game, goals_in
from envs.alfworld.generator.drawn_game import DrawnGame
from envs.alfworld.generator.layouts import SCENES, UNSEEN_SCENES, Layout, load_layout
from envs.alfworld.names import FAMILIES, SPLITS, TRAIN, VALID_UNSEEN
from envs.files import Progress, cached_folder, new_folder
from envs.nearest import hint
from envs.options import checked_int, is_int, settings_from

GENERATOR_VERSION = 1
"""Part of the name of cached games: raise it when the same settings come to mean other games."""

_DRAWS_PER_GAME = 1000


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """What to generate. Games per split, dealt evenly to the families; ranges hold the least and
    the most.

    `train` and `valid_seen` are on the same floor plans, `valid_unseen` on the four that ALFWorld
    keeps for it. `copies`: the most receptacles of one type in a room. `scenes`: the floor plans of
    `train` and `valid_seen`, all but ALFWorld's unseen ones where empty. `object_types`,
    `receptacle_types`: the things and the furniture that there may be, in ALFWorld's spelling
    (`AlarmClock`, `SinkBasin`); all that belong into a room where empty. Defaults make small rooms,
    which the engine steps quickly.

    Raises:
        ValueError: a value is out of range; the message names its key.
    """

    train: int = 480
    valid_seen: int = 120
    valid_unseen: int = 60
    seed: int = 1
    receptacles: tuple[int, int] = (4, 6)
    objects: tuple[int, int] = (4, 7)
    families: tuple[str, ...] = FAMILIES
    copies: int = 2
    scenes: tuple[int, ...] = ()
    object_types: tuple[str, ...] = ()
    receptacle_types: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key in (*SPLITS, "seed"):
            checked_int(f"games.{key}", getattr(self, key), 0)
        checked_int("games.copies", self.copies, 1)
        for key, least in (("receptacles", 3), ("objects", 3)):
            object.__setattr__(self, key, _checked_range(key, getattr(self, key), least))
        families = self.families
        if isinstance(families, str) or not isinstance(families, list | tuple) or not families:
            raise ValueError(
                f"games.families: {families!r} is not a list of families; known: {', '.join(FAMILIES)}"
            )
        for family in families:
            if family not in FAMILIES:
                raise ValueError(
                    f"games.families: {family!r} is not known{hint(str(family), FAMILIES)}"
                )
        object.__setattr__(self, "families", tuple(families))
        allowed = scenes_of(TRAIN)
        for scene in self.scenes:
            if scene not in allowed:
                raise ValueError(
                    f"games.scenes: {scene!r} is not a floor plan to train on; there are 1-30 (kitchens), 201-230 "
                    "(living rooms), 301-330 (bedrooms), 401-430 (bathrooms), less "
                    f"{', '.join(map(str, UNSEEN_SCENES))}"
                )
        object.__setattr__(self, "scenes", tuple(self.scenes))
        for key in ("object_types", "receptacle_types"):
            chosen = getattr(self, key)
            # Reads all 120 floor plans, so only where somebody chose.
            known = sorted(_types_there_are(key)) if chosen else []
            for kind in chosen:
                if kind not in known:
                    raise ValueError(f"games.{key}: {kind!r} is not known{hint(str(kind), known)}")
            object.__setattr__(self, key, tuple(chosen))
        for split in SPLITS:
            for family in self.families if getattr(self, split) else ():
                if not any(goals_in(layout, family) for layout in self.layouts(split)):
                    raise ValueError(
                        f"games.{split}: {family} is not possible on any of its floor plans; allow more scenes, "
                        "object_types or receptacle_types, or leave the family out of games.families"
                    )

    def layouts(self, split: str) -> Iterator[Layout]:
        """The floor plans of a split, with what these settings allow in them."""
        scenes = self.scenes or scenes_of(split) if split != VALID_UNSEEN else scenes_of(split)
        return (
            load_layout(scene).keep(self.object_types, self.receptacle_types) for scene in scenes
        )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "GeneratorSettings":
        """Settings from a config file's mapping; an unknown key is an error that names the nearest
        known one.
        """
        return settings_from(cls, values, "games")


def generate_games(
    folder: Path, settings: GeneratorSettings, progress: Progress | None = None
) -> dict[str, int]:
    """Write games into `folder`, laid out as ALFWorld's data; returns the games per split.

    The same settings give the same bytes. No two games, of whatever splits, look the same to a
    player. `folder` comes into being at the end, whole; `progress` is called with games done and
    games in all.

    Raises:
        ValueError: `folder` exists and is not empty, or the settings do not allow that many
        different games.
    """
    counts = dict.fromkeys(SPLITS, 0)
    total = sum(getattr(settings, split) for split in SPLITS)
    with new_folder(folder) as partial:
        for split, index, game in _draw_games(settings):
            recipe = f"{game.family}-{game.object_type}-None-{game.target}-{game.scene}"
            trial = f"trial_G{settings.seed}_{split}_{index:05d}"
            path = partial / DATA_VERSION / split / recipe / trial / GAME_FILE
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(game.to_json(trial)), encoding="utf-8")
            counts[split] += 1
            if progress is not None:
                progress(sum(counts.values()), total)
    return counts


def cached_games(settings: GeneratorSettings, progress: Progress | None = None) -> Path:
    """The folder with the games of these settings in the cache, made at the first call."""
    recipe = {"version": GENERATOR_VERSION, **asdict(settings)}
    return cached_folder("games", recipe, lambda folder: generate_games(folder, settings, progress))


def scenes_of(split: str) -> tuple[int, ...]:
    """The floor plans of a split."""
    if split == VALID_UNSEEN:
        return UNSEEN_SCENES
    return tuple(scene for scene in SCENES if scene not in UNSEEN_SCENES)


def _draw_games(settings: GeneratorSettings) -> Iterator[tuple[str, int, DrawnGame]]:
    seen: set[tuple[str, ...]] = set()
    for split in SPLITS:
        layouts = list(settings.layouts(split))
        usable = {
            f: [layout for layout in layouts if goals_in(layout, f)] for f in settings.families
        }
        for index in range(getattr(settings, split)):
            family = settings.families[index % len(settings.families)]
            rng = random.Random(f"alfworld-games:{settings.seed}:{split}:{index}")
            for _ in range(_DRAWS_PER_GAME):
                game = draw_game(
                    rng.choice(usable[family]),
                    family,
                    rng,
                    receptacles=settings.receptacles,
                    objects=settings.objects,
                    copies=settings.copies,
                )
                if game is not None and game.signature() not in seen:
                    seen.add(game.signature())
                    yield split, index, game
                    break
            else:
                raise ValueError(
                    f"games.{split}: found only {index} different games in rooms of {settings.receptacles} receptacles "
                    f"and {settings.objects} objects; ask for fewer games or for larger rooms"
                )


def _types_there_are(key: str) -> set[str]:
    layouts = [load_layout(scene) for scene in SCENES]
    if key == "object_types":
        return {kind for layout in layouts for kind in layout.object_types}
    return {receptacle.type for layout in layouts for receptacle in layout.receptacles}


def _checked_range(key: str, value: Any, least: int) -> tuple[int, int]:
    is_pair = (
        isinstance(value, list | tuple) and len(value) == 2 and all(is_int(end) for end in value)
    )
    if not is_pair or not least <= value[0] <= value[1]:
        raise ValueError(
            f"games.{key}: {value!r} is not [least, most] with {least} <= least <= most"
        )
    return value[0], value[1]
