"""Draws one ALFWorld game: a room cut down from a real floor plan, things in it, and a task."""

import random
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from envs.alfworld.generator.drawn_game import DrawnGame, DrawnThing
from envs.alfworld.generator.layouts import Layout, LayoutReceptacle
from envs.alfworld.names import CHANGE_OF_FAMILY, LAMP, LOOK, TWO
from envs.alfworld.package import constants, goals, mangle

LAMP_PLACES = ("CoffeeTable", "Desk", "Dresser", "Shelf", "SideTable")
"""The furniture on which desk lamps stand in the published games."""

_COPIES_OF_A_TYPE = 2
"""A room has at most this many other things of one type."""
_BASINS = ("SinkBasin", "BathtubBasin")
"""Never a target: no task of the published games puts a thing there for good."""
_STEP = 0.25
"""Metres: a thing is at most so far from its receptacle in each direction."""


@dataclass(frozen=True, kw_only=True)
class _Draft:
    """The decisions that come first: a room and things are drawn to fit them."""

    layout: Layout
    family: str
    object_type: str
    """The type of the thing that the task is about."""
    target: str
    """The type of the receptacle to fill, or of the lamp."""
    rng: random.Random


def goals_in(layout: Layout, family: str) -> dict[str, list[str]]:
    """The tasks of a family that are possible on a floor plan.

    Returns:
        By type of target: the types of things that the task may be about. Empty if no task is
        possible.
    """
    present = {receptacle.type for receptacle in layout.receptacles}
    if family == LOOK:
        if LAMP not in layout.object_types or present.isdisjoint(LAMP_PLACES):
            return {}
        return {LAMP: [kind for kind in layout.object_types if _fits_into(kind, present)]}
    able, tool = set(layout.object_types), ""
    if family in CHANGE_OF_FAMILY:
        change = CHANGE_OF_FAMILY[family]
        able, tool = constants().VAL_ACTION_OBJECTS[change.ability.capitalize()], change.tool
        if tool not in present:
            return {}
    # A tool is no target: no task cools something and puts it into the fridge.
    possible = {}
    for target in sorted(present - {tool, *_BASINS}):
        # The thing must fit into the target and also elsewhere, for the start.
        kinds = [
            kind
            for kind in layout.object_types
            if kind in able and _fits_into(kind, [target]) and _fits_into(kind, present - {target})
        ]
        if kinds:
            possible[target] = kinds
    return possible


def _fits_into(kind: str, furniture: Collection[str]) -> bool:
    """Whether one of these types of furniture can hold a thing of type `kind`."""
    holds = constants().VAL_RECEPTACLE_OBJECTS
    return any(kind in holds[place] for place in furniture)


def draw_game(
    layout: Layout,
    family: str,
    rng: random.Random,
    *,
    receptacles: tuple[int, int],
    objects: tuple[int, int],
    copies: int,
) -> DrawnGame | None:
    """Draw a game that can be won; None if the draw led nowhere, which happens often.

    Args:
        layout: the floor plan; `goals_in(layout, family)` must not be empty.
        family: the kind of task.
        rng: decides everything.
        receptacles: the least and the most receptacles in the room.
        objects: the least and the most things in it.
        copies: the most receptacles of one type.
    """
    choices = goals_in(layout, family)
    target = rng.choice(list(choices))
    draft = _Draft(
        layout=layout,
        family=family,
        object_type=rng.choice(choices[target]),
        target=target,
        rng=rng,
    )
    room = _draw_room(draft, size=rng.randint(*receptacles), copies=copies)
    if room is None:
        return None
    things = _draw_things(draft, room, count=rng.randint(*objects))
    if things is None:
        return None
    return DrawnGame(
        family=family,
        scene=layout.scene,
        object_type=draft.object_type,
        target=target,
        template=rng.choice(goals().gdict[family]["templates"]),
        receptacles=tuple(sorted(room, key=lambda receptacle: receptacle.id)),
        things=tuple(sorted(things, key=lambda thing: thing.id)),
    )


def _draw_room(draft: _Draft, *, size: int, copies: int) -> list[LayoutReceptacle] | None:
    """`size` receptacles, each at its own location; None if the floor plan has too few."""
    room: list[LayoutReceptacle] = []

    def add_one_of(kinds: Collection[str]) -> bool:
        counts = Counter(receptacle.type for receptacle in room)
        taken = {receptacle.location for receptacle in room}
        free = []
        for receptacle in draft.layout.receptacles:
            available = receptacle.location not in taken and counts[receptacle.type] < copies
            if receptacle.type in kinds and available:
                free.append(receptacle)
        if free:
            room.append(draft.rng.choice(free))
        return bool(free)

    for kinds in _needed_furniture(draft):
        # One receptacle may serve two needs: a desk for the lamp is also a place for the thing.
        if not any(receptacle.type in kinds for receptacle in room) and not add_one_of(kinds):
            return None
    everything = sorted(constants().VAL_RECEPTACLE_OBJECTS)
    while len(room) < size and add_one_of(everything):
        pass
    return room if len(room) == size else None


def _needed_furniture(draft: _Draft) -> list[list[str]]:
    """Lists of furniture types; the room needs one of each list.

    They are the target (or a place for the lamp), the tool of the family, and a place for the thing
    at the start.
    """
    holds = constants().VAL_RECEPTACLE_OBJECTS
    needed = [list(LAMP_PLACES) if draft.target == LAMP else [draft.target]]
    if draft.family in CHANGE_OF_FAMILY:
        needed.append([CHANGE_OF_FAMILY[draft.family].tool])
    sources = [place for place in sorted(holds) if draft.object_type in holds[place]]
    needed.append([place for place in sources if place != draft.target])
    return needed


def _draw_things(
    draft: _Draft, room: list[LayoutReceptacle], *, count: int
) -> list[DrawnThing] | None:
    """`count` things, each in a receptacle of the room; None if there are too few types for them.

    They are the things of the task (one or two, or two or three if the task asks for two), the
    lamp, and others.
    """
    kinds = _draw_kinds(draft, room, count=count)
    if kinds is None:
        return None
    things: dict[str, DrawnThing] = {}
    for kind in kinds:
        place = draft.rng.choice(_places_for(kind, draft, room))
        thing = DrawnThing(id=_thing_id(kind, place, draft.rng), type=kind, place=place.id)
        things[thing.id] = thing
    # Two things may have drawn the same id.
    return list(things.values()) if len(things) == count else None


def _draw_kinds(draft: _Draft, room: list[LayoutReceptacle], *, count: int) -> list[str] | None:
    """The types of the `count` things."""
    asked = 2 if draft.family == TWO else 1
    kinds = [draft.object_type] * (asked + draft.rng.randint(0, 1))
    if draft.target == LAMP:
        kinds.append(LAMP)
    # A small room has no space for the spare one.
    if len(kinds) > count:
        kinds.remove(draft.object_type)
    # Other things of the task's type would make the task easier than its count says.
    furniture = [receptacle.type for receptacle in room]
    others = []
    for kind in draft.layout.object_types:
        if kind != draft.object_type and _fits_into(kind, furniture):
            others.append(kind)
    others *= _COPIES_OF_A_TYPE
    if kinds.count(draft.object_type) < asked or not 0 <= count - len(kinds) <= len(others):
        return None
    return kinds + draft.rng.sample(others, count - len(kinds))


def _places_for(kind: str, draft: _Draft, room: list[LayoutReceptacle]) -> list[LayoutReceptacle]:
    """The receptacles in which a thing may start: not the target, if it is a thing of the task."""
    places = []
    for receptacle in room:
        if kind == LAMP:
            fits = receptacle.type in LAMP_PLACES
        else:
            fits = _fits_into(kind, [receptacle.type])
        solved = kind == draft.object_type and receptacle.type == draft.target
        if fits and not solved:
            places.append(receptacle)
    return places


def _thing_id(kind: str, place: LayoutReceptacle, rng: random.Random) -> str:
    """An id as in the published games: `Type|x|y|z` in metres, near the receptacle."""
    x, y, z = (value + rng.uniform(-_STEP, _STEP) for value in place.position)
    return mangle(f"{kind}|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}")
