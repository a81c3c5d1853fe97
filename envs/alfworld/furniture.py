"""Rooms as a problem describes them: the furniture, and which things lie on which kind of it."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from envs.alfworld.data import game_path, index_games
from envs.alfworld.engines.game import parse_problem
from envs.alfworld.engines.game_file import Problem, pairs
from envs.alfworld.names import TRAIN

_ROOM_TYPES_IN_MEMORY = 16


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """A kind of furniture. Kinds sort as the texts list them."""

    form: str
    """The id of such a piece, with a gap for its position: `drawer_bar_{}`, or
    `sink_bar_{}_bar_sinkbasin`. The name that the player reads follows from it."""
    type: str
    """As the problem spells it, in lower case: `drawertype`; "" if the problem does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of furniture."""

    id: str
    kind: Kind
    location: str
    """Where the player stands to use it. The scene's number makes it unlike those elsewhere."""
    openable: bool
    beside: str
    """The form of another kind that has a piece at this location; "" if none.

    Of two such kinds only the one that is listed later names the other.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A room of a game."""

    pieces: tuple[Piece, ...]
    """Its furniture, sorted by id."""
    things: tuple[tuple[str, str, Kind], ...]
    """For each thing in furniture its id, its type, and the kind of furniture."""


def room_of(problem: Problem, scene: str) -> Room:
    """The room of a problem; `scene` is the floor plan's number."""
    types = pairs(problem.facts.get("receptacletype", ()))
    openable = {place for (place,) in problem.facts.get("openable", ())}
    locations = problem.facts.get("receptacleatlocation", ())
    forms_at: dict[str, list[str]] = defaultdict(list)
    for place, location in locations:
        forms_at[location].append(_form(place))
    pieces: dict[str, Piece] = {}
    for place, location in locations:
        form = _form(place)
        first = min(forms_at[location])
        pieces[place] = Piece(
            id=place,
            kind=Kind(form, types.get(place, "")),
            location=f"{location}_of_{scene}",
            openable=place in openable,
            beside="" if first == form else first,
        )
    thing_types = pairs(problem.facts.get("objecttype", ()))
    things = []
    for thing, place in problem.facts.get("inreceptacle", ()):
        things.append((thing, thing_types.get(thing, ""), pieces[place].kind))
    return Room(pieces=tuple(pieces.values()), things=tuple(things))


def _form(place: str) -> str:
    """The id of a piece without its position.

    Only basins have a part after the position that the player's name depends on.
    """
    first, *_, last = place.split("_bar_")
    return f"{first}_bar_{{}}_bar_{last}" if "basin" in place else f"{first}_bar_{{}}"


def room_type(scene: str) -> int:
    """0 for kitchens, 2 for living rooms, 3 for bedrooms, 4 for bathrooms: by the scene's number.

    All scenes without a number are of one type, -1.
    """
    return int(scene) // 100 if scene.isdecimal() else -1


@lru_cache(_ROOM_TYPES_IN_MEMORY)
def training_rooms(folder: Path, held_out: frozenset[str], kind: int) -> Mapping[str, Room]:
    """The training rooms of one type, by scene: each as in the first game of its scene.

    Reading them takes a tenth of a second, once for a process.

    Args:
        folder: the folder that holds the split folders.
        held_out: scenes to leave out.
        kind: the type of room, as `room_type` has it.

    Raises:
        ValueError: a game file cannot be read, or the native engine has no rule for a part of it.
    """
    rooms: dict[str, Room] = {}
    for game in index_games(folder, TRAIN):
        scene = game.scene
        if room_type(scene) == kind and scene not in held_out and scene not in rooms:
            rooms[scene] = room_of(parse_problem(game_path(folder, TRAIN, game.id)), scene)
    return rooms
