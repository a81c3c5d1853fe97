"""Draw one ALFWorld game: a room cut down from a real floor plan, things in it, and something to
do.
"""

import random
from collections import Counter

from envs.alfworld.generator.drawn_game import DrawnGame, DrawnThing
from envs.alfworld.generator.layouts import Layout, LayoutReceptacle
from envs.alfworld.names import CHANGE_OF_FAMILY, LAMP, LOOK, TWO
from envs.alfworld.package import constants, goals, mangle

LAMP_PLACES = ("CoffeeTable", "Desk", "Dresser", "Shelf", "SideTable")
"""Where desk lamps stand in the real games."""

_COPIES_OF_A_TYPE = 2
_BASINS = ("SinkBasin", "BathtubBasin")


def goals_in(layout: Layout, family: str) -> dict[str, list[str]]:
    """What a family could ask for on this floor plan: the target's type to the object types; empty
    where nothing.
    """
    holds = constants().VAL_RECEPTACLE_OBJECTS
    present = {receptacle.type for receptacle in layout.receptacles}
    if family == LOOK:
        if LAMP not in layout.object_types or not present & set(LAMP_PLACES):
            return {}
        return {
            LAMP: [
                kind
                for kind in layout.object_types
                if any(kind in holds[place] for place in present)
            ]
        }
    able, tool = set(layout.object_types), ""
    if family in CHANGE_OF_FAMILY:
        change = CHANGE_OF_FAMILY[family]
        able, tool = constants().VAL_ACTION_OBJECTS[change.ability.capitalize()], change.tool
        if tool not in present:
            return {}
    found = {}
    for target in sorted(present - {tool, *_BASINS}):
        kinds = [
            kind
            for kind in layout.object_types
            if kind in able
            and kind in holds[target]
            and any(kind in holds[p] for p in present - {target})
        ]
        if kinds:
            found[target] = kinds
    return found


def draw_game(
    layout: Layout,
    family: str,
    rng: random.Random,
    *,
    receptacles: tuple[int, int],
    objects: tuple[int, int],
    copies: int,
) -> DrawnGame | None:
    """Draw a game of this family on this floor plan, solvable by construction; None where the draw
    led nowhere.

    `receptacles` and `objects` are the least and the most of them, `copies` the most receptacles of
    one type.
    """
    choices = goals_in(layout, family)
    target = rng.choice(list(choices))
    kind = rng.choice(choices[target])
    room = _draw_room(
        layout, family, target, kind, rng, size=rng.randint(*receptacles), copies=copies
    )
    if room is None:
        return None
    things = _draw_things(layout, room, family, target, kind, rng, count=rng.randint(*objects))
    if things is None:
        return None
    return DrawnGame(
        family=family,
        scene=layout.scene,
        object_type=kind,
        target=target,
        template=rng.choice(goals().gdict[family]["templates"]),
        receptacles=tuple(sorted(room, key=lambda receptacle: receptacle.id)),
        things=tuple(sorted(things, key=lambda thing: thing.id)),
    )


def _draw_room(
    layout: Layout,
    family: str,
    target: str,
    kind: str,
    rng: random.Random,
    *,
    size: int,
    copies: int,
) -> list[LayoutReceptacle] | None:
    """`size` receptacles, each at a place of its own: what the task needs, where the object can be,
    and others.
    """
    holds = constants().VAL_RECEPTACLE_OBJECTS
    needed = [[target]] if target != LAMP else [list(LAMP_PLACES)]
    if family in CHANGE_OF_FAMILY:
        needed.append([CHANGE_OF_FAMILY[family].tool])
    sources = [place for place in sorted(holds) if kind in holds[place] and place != target]
    needed += [sources]
    room: list[LayoutReceptacle] = []

    def add(kinds: list[str]) -> bool:
        counts = Counter(receptacle.type for receptacle in room)
        taken = {receptacle.location for receptacle in room}
        free = [
            r
            for r in layout.receptacles
            if r.type in kinds and r.location not in taken and counts[r.type] < copies
        ]
        if free:
            room.append(rng.choice(free))
        return bool(free)

    for kinds in needed:
        if not any(receptacle.type in kinds for receptacle in room) and not add(kinds):
            return None
    while len(room) < size and add(sorted(holds)):
        pass
    return room if len(room) == size else None


def _draw_things(
    layout: Layout,
    room: list[LayoutReceptacle],
    family: str,
    target: str,
    kind: str,
    rng: random.Random,
    *,
    count: int,
) -> list[DrawnThing] | None:
    """`count` things: one or two of the task's type (two or three where two are asked for), the
    lamp, and others.
    """
    holds = constants().VAL_RECEPTACLE_OBJECTS
    asked = 2 if family == TWO else 1
    kinds = [kind] * (asked + rng.randint(0, 1))
    if target == LAMP:
        kinds.append(LAMP)
    others = [
        other
        for other in layout.object_types
        if other != kind and any(other in holds[receptacle.type] for receptacle in room)
    ] * _COPIES_OF_A_TYPE
    if len(kinds) > count:
        kinds.remove(kind)
    if not asked <= kinds.count(kind) or not 0 <= count - len(kinds) <= len(others):
        return None
    kinds += rng.sample(others, count - len(kinds))
    things: dict[str, DrawnThing] = {}
    for each in kinds:
        places = [
            receptacle
            for receptacle in room
            if (receptacle.type in LAMP_PLACES if each == LAMP else each in holds[receptacle.type])
            and not (each == kind and receptacle.type == target)
        ]
        place = rng.choice(places)
        thing = DrawnThing(id=_thing_id(each, place, rng), type=each, place=place.id)
        things[thing.id] = thing
    return list(things.values()) if len(things) == count else None


def _thing_id(kind: str, place: LayoutReceptacle, rng: random.Random) -> str:
    """An id as in the real games, `Type|x|y|z` in metres, within a step of the receptacle."""
    x, y, z = (value + rng.uniform(-0.25, 0.25) for value in place.position)
    return mangle(f"{kind}|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}")
