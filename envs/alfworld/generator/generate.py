"""Makes ALFWorld games from the parts that the alfworld package ships; nothing is downloaded."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
"""Part of the name of cached games: raise it if the same settings give other games than before."""

_DRAWS_PER_GAME = 1000


@dataclass(frozen=True, kw_only=True)
class GeneratorSettings:
    """What to generate. The defaults make small rooms, which an engine steps quickly.

    Raises:
        ValueError: a value is out of range, or the settings rule out a family; the message names
            the key.
    """

    train: int = 480
    """Games of the split `train`, in equal shares for the families."""
    valid_seen: int = 120
    """Games of `valid_seen`, on the floor plans of `train`."""
    valid_unseen: int = 60
    """Games of `valid_unseen`, on the four floor plans that ALFWorld keeps for it."""
    seed: int = 1
    """Another seed makes other games."""
    receptacles: tuple[int, int] = (4, 6)
    """The least and the most pieces of furniture in a room."""
    objects: tuple[int, int] = (4, 7)
    """The least and the most things in a room."""
    families: tuple[str, ...] = FAMILIES
    """The kinds of tasks, in the order in which they take turns."""
    copies: int = 2
    """The most pieces of furniture of one type in a room."""
    scenes: tuple[int, ...] = ()
    """The floor plans of `train` and `valid_seen`; empty: all but those of `valid_unseen`."""
    object_types: tuple[str, ...] = ()
    """The things to use, in ALFWorld's spelling (`AlarmClock`); empty: all that belong there."""
    receptacle_types: tuple[str, ...] = ()
    """The furniture to use, in ALFWorld's spelling (`SinkBasin`); empty: all that is there."""

    def __post_init__(self) -> None:
        for key in (*SPLITS, "seed"):
            checked_int(f"games.{key}", getattr(self, key), 0)
        checked_int("games.copies", self.copies, 1)
        # A config file gives lists. As tuples, equal settings are equal and have a hash.
        for key in ("receptacles", "objects"):
            object.__setattr__(self, key, _checked_range(key, getattr(self, key), 3))
        object.__setattr__(self, "families", _checked_families(self.families))
        object.__setattr__(self, "scenes", _checked_scenes(self.scenes))
        for key in ("object_types", "receptacle_types"):
            object.__setattr__(self, key, _checked_types(key, getattr(self, key)))
        for split in SPLITS:
            if getattr(self, split):
                self._check_possible(split)

    def _check_possible(self, split: str) -> None:
        """Refuse a family that no floor plan of the split allows."""
        layouts = self.layouts(split)
        for family in self.families:
            if not any(goals_in(layout, family) for layout in layouts):
                raise ValueError(
                    f"games.{split}: {family} is not possible on any of its floor plans; allow "
                    "more scenes, object_types or receptacle_types, or leave the family out of "
                    "games.families"
                )

    def layouts(self, split: str) -> list[Layout]:
        """The floor plans of a split, with the allowed things and furniture only."""
        scenes = scenes_of(split)
        if self.scenes and split != VALID_UNSEEN:
            scenes = self.scenes
        layouts = [load_layout(scene) for scene in scenes]
        return [layout.keep(self.object_types, self.receptacle_types) for layout in layouts]

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "GeneratorSettings":
        """The settings in a config file's mapping.

        Raises:
            ValueError: a key is unknown (the message names the nearest), or a value is refused.
        """
        return settings_from(cls, values, "games")


def scenes_of(split: str) -> tuple[int, ...]:
    """The floor plans of a split."""
    if split == VALID_UNSEEN:
        return UNSEEN_SCENES
    return tuple(scene for scene in SCENES if scene not in UNSEEN_SCENES)


def _checked_range(key: str, value: Any, least: int) -> tuple[int, int]:
    is_pair = (
        isinstance(value, list | tuple) and len(value) == 2 and all(is_int(end) for end in value)
    )
    if not is_pair or not least <= value[0] <= value[1]:
        raise ValueError(
            f"games.{key}: {value!r} is not [least, most] with {least} <= least <= most"
        )
    return value[0], value[1]


def _checked_families(families: Any) -> tuple[str, ...]:
    if not isinstance(families, list | tuple) or not families:
        raise ValueError(
            f"games.families: {families!r} is not a list of families; known: {', '.join(FAMILIES)}"
        )
    for family in families:
        if family not in FAMILIES:
            raise ValueError(
                f"games.families: {family!r} is not known{hint(str(family), FAMILIES)}"
            )
    return tuple(families)


def _checked_scenes(scenes: Iterable[int]) -> tuple[int, ...]:
    allowed = scenes_of(TRAIN)
    for scene in scenes:
        if scene not in allowed:
            raise ValueError(
                f"games.scenes: {scene!r} is not a floor plan to train on; there are "
                "1-30 (kitchens), 201-230 (living rooms), 301-330 (bedrooms), "
                f"401-430 (bathrooms), without {', '.join(map(str, UNSEEN_SCENES))}"
            )
    return tuple(scenes)


def _checked_types(key: str, types: Sequence[str]) -> tuple[str, ...]:
    if not types:
        return ()  # most settings name none; to know all types, all 120 floor plans must be read
    known: set[str] = set()
    for scene in SCENES:
        layout = load_layout(scene)
        if key == "object_types":
            known.update(layout.object_types)
        else:
            known.update(receptacle.type for receptacle in layout.receptacles)
    for kind in types:
        if kind not in known:
            raise ValueError(f"games.{key}: {kind!r} is not known{hint(str(kind), sorted(known))}")
    return tuple(types)


def generate_games(
    folder: Path, settings: GeneratorSettings, progress: Progress | None = None
) -> dict[str, int]:
    """Write games into a new folder, in the layout of ALFWorld's data; equal settings, equal bytes.

    No two games look the same to a player, also across splits. The folder appears when all games
    are written.

    Args:
        folder: must be empty, or not exist yet.
        settings: what to generate.
        progress: called with the number of games made, and of all games.

    Returns:
        The number of games of each split.

    Raises:
        ValueError: `folder` is not empty, or the settings do not allow that many different games.
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
    """The cached folder with the games of these settings; the first call makes it."""
    recipe = {"version": GENERATOR_VERSION, **asdict(settings)}
    return cached_folder("games", recipe, lambda folder: generate_games(folder, settings, progress))


def _draw_games(settings: GeneratorSettings) -> Iterator[tuple[str, int, DrawnGame]]:
    """Draw all games, each with its split and its number within the split."""
    seen: set[tuple[str, ...]] = set()
    for split in SPLITS:
        layouts = settings.layouts(split)
        usable = {}
        for family in settings.families:
            usable[family] = [layout for layout in layouts if goals_in(layout, family)]
        for index in range(getattr(settings, split)):
            family = settings.families[index % len(settings.families)]
            # Each game has its own random generator, so more games leave the first ones alone.
            rng = random.Random(f"alfworld-games:{settings.seed}:{split}:{index}")
            game = _draw_new_game(usable[family], family, rng, settings, seen)
            if game is None:
                raise ValueError(
                    f"games.{split}: found only {index} different games in rooms of "
                    f"{settings.receptacles} receptacles and {settings.objects} objects; ask for "
                    "fewer games or for larger rooms"
                )
            yield split, index, game


def _draw_new_game(
    layouts: Sequence[Layout],
    family: str,
    rng: random.Random,
    settings: GeneratorSettings,
    seen: set[tuple[str, ...]],
) -> DrawnGame | None:
    """A game unlike all in `seen`, which it joins; None if many draws find none."""
    for _ in range(_DRAWS_PER_GAME):
        game = draw_game(
            rng.choice(layouts),
            family,
            rng,
            receptacles=settings.receptacles,
            objects=settings.objects,
            copies=settings.copies,
        )
        if game is not None and game.signature() not in seen:
            seen.add(game.signature())
            return game
    return None
