"""One generated game as a value: its names, its walkthrough, and its file's contents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envs.alfworld.engines.game import player_names
from envs.alfworld.generator.layouts import LayoutReceptacle
from envs.alfworld.names import AGENT, CHANGE_OF_FAMILY, CHANGES, LOOK, TWO
from envs.alfworld.package import constants, domain_and_grammar, goals, mangle


@dataclass(frozen=True, kw_only=True)
class DrawnThing:
    """A thing in a room."""

    id: str
    """Its name in the problem: `Mug_bar__plus_00_dot_95_bar_...`."""
    type: str
    """In the package's spelling: `Mug`."""
    place: str
    """The id of the receptacle that holds it."""


@dataclass(frozen=True, kw_only=True)
class DrawnGame:
    """A game that can be won.

    No two receptacles share a location, and no thing of the task starts in the target.
    """

    family: str
    scene: int
    """The number of its floor plan."""
    object_type: str
    """The type of the thing that the task is about."""
    target: str
    """The type of the receptacle to fill; for look_at_obj_in_light the type of the lamp."""
    template: str
    """The task sentence with gaps, from the package's goal library."""
    receptacles: tuple[LayoutReceptacle, ...]
    things: tuple[DrawnThing, ...]

    @property
    def sentence(self) -> str:
        """The task as the player reads it."""
        target = self.target.lower()
        return self.template.format(
            obj=self.object_type.lower(), recep=target, toggle=target, mrecep=""
        )

    @property
    def names(self) -> dict[str, str]:
        """By id, the names as the player reads them: `drawer 2`."""
        ids = [receptacle.id for receptacle in self.receptacles]
        ids += [thing.id for thing in self.things]
        names = player_names(name_id.lower() for name_id in ids)
        return {name_id: names[name_id.lower()] for name_id in ids}

    def signature(self) -> tuple[str, ...]:
        """Everything that a player can find out.

        Games with the same signature are the same game to a player, whatever their ids are.
        """
        names = self.names
        places = sorted(names[receptacle.id] for receptacle in self.receptacles)
        things = sorted(f"{names[thing.id]} in {names[thing.place]}" for thing in self.things)
        return (self.family, self.sentence, *places, *things)

    def walkthrough(self) -> list[str]:
        """Commands that win the game, without any search."""
        names = self.names
        by_id = {receptacle.id: receptacle for receptacle in self.receptacles}
        walk = _Walk(names)
        wanted = [thing for thing in self.things if thing.type == self.object_type]
        for thing in wanted[: 2 if self.family == TWO else 1]:
            name = names[thing.id]
            walk.go_into(by_id[thing.place])
            walk.commands.append(f"take {name} from {names[thing.place]}")
            if self.family == LOOK:
                lamp = next(thing for thing in self.things if thing.type == self.target)
                walk.go_to(by_id[lamp.place])
                walk.commands.append(f"use {names[lamp.id]}")
                break
            if self.family in CHANGE_OF_FAMILY:
                change = CHANGE_OF_FAMILY[self.family]
                tool = self._first_of(change.tool)
                walk.go_to(tool)
                walk.commands.append(f"{change.verb} {name} with {names[tool.id]}")
            target = self._first_of(self.target)
            walk.go_into(target)
            walk.commands.append(f"move {name} to {names[target.id]}")
        return walk.commands

    def _first_of(self, kind: str) -> LayoutReceptacle:
        return next(receptacle for receptacle in self.receptacles if receptacle.type == kind)

    def to_json(self, name: str) -> dict[str, Any]:
        """The contents of its game file; `name` is the problem's name."""
        domain, grammar = domain_and_grammar()
        return {
            "pddl_domain": domain,
            "grammar": grammar.replace("UNKNOWN GOAL", self.sentence),
            "pddl_problem": write_problem(self, name),
            "solvable": True,
            "walkthrough": self.walkthrough(),
        }


class _Walk:
    """A walk through the room: its commands, where it is, and what it has opened."""

    def __init__(self, names: dict[str, str]) -> None:
        self.commands: list[str] = []
        self._names = names
        self._here = ""
        self._opened: set[str] = set()

    def go_to(self, place: LayoutReceptacle) -> None:
        """Go to a receptacle, unless it is the one here."""
        if self._here != place.id:
            self.commands.append(f"go to {self._names[place.id]}")
            self._here = place.id

    def go_into(self, place: LayoutReceptacle) -> None:
        """Go to a receptacle, and open it if it is closed."""
        self.go_to(place)
        if place.openable and place.id not in self._opened:
            self.commands.append(f"open {self._names[place.id]}")
            self._opened.add(place.id)


def write_problem(game: DrawnGame, name: str) -> str:
    """The PDDL problem of a game.

    It has no fact or type that the game can do without: the stock engine's time grows with each.
    """
    spots = [receptacle.location for receptacle in game.receptacles]
    # The player starts in mid-room, at a location without furniture: another rotation is another
    # location.
    starts = [mangle(f"loc|0|0|{turn}|60") for turn in range(4)]
    start = next(spot for spot in starts if spot not in spots)
    thing_types = sorted({thing.type for thing in game.things})
    place_types = sorted({receptacle.type for receptacle in game.receptacles})
    declared = {
        "agent": [AGENT],
        "otype": [f"{kind}Type" for kind in thing_types],
        "rtype": [f"{kind}Type" for kind in place_types],
        "object": [thing.id for thing in game.things],
        "receptacle": [receptacle.id for receptacle in game.receptacles],
        "location": [*spots, start],
    }
    facts = [f"atLocation {AGENT} {start}", *_receptacle_facts(game), *_thing_facts(game)]
    lines = [f"(define (problem plan_{name})\n(:domain alfred)\n(:objects"]
    lines += [f"    {' '.join(names)} - {kind}" for kind, names in declared.items()]
    lines += [")", "(:init"]
    lines += [f"    ({fact})" for fact in facts]
    lines += [")", _goal(game)]
    return "\n".join(lines)


def _receptacle_facts(game: DrawnGame) -> Iterator[str]:
    thing_types = {thing.type for thing in game.things}
    for receptacle in game.receptacles:
        yield f"receptacleType {receptacle.id} {receptacle.type}Type"
        yield f"receptacleAtLocation {receptacle.id} {receptacle.location}"
        if receptacle.openable:
            yield f"openable {receptacle.id}"
    holds = constants().VAL_RECEPTACLE_OBJECTS
    for kind in sorted({receptacle.type for receptacle in game.receptacles}):
        for thing_type in sorted(thing_types & holds[kind]):
            yield f"canContain {kind}Type {thing_type}Type"


def _thing_facts(game: DrawnGame) -> Iterator[str]:
    """The facts about things.

    Abilities without a tool in the room are left out. Nothing is sliceable: no family slices.
    """
    present = {receptacle.type for receptacle in game.receptacles}
    able = constants().VAL_ACTION_OBJECTS
    used = {}
    for change in CHANGES.values():
        if change.tool in present:
            used[change.ability] = able[change.ability.capitalize()]
    for thing in game.things:
        yield f"objectType {thing.id} {thing.type}Type"
        yield f"inReceptacle {thing.id} {thing.place}"
        yield f"{'toggleable' if thing.type in able['Toggleable'] else 'pickupable'} {thing.id}"
        if thing.type in constants().MOVABLE_RECEPTACLES_SET:
            yield f"isReceptacleObject {thing.id}"
        for ability, types in used.items():
            if thing.type in types:
                yield f"{ability} {thing.id}"


def _goal(game: DrawnGame) -> str:
    """The goal in PDDL, with the bracket that closes the problem.

    The package's goal library has that bracket too, and `#` for PDDL's `-`.
    """
    pddl: str = goals().gdict[game.family]["pddl"]
    filled = pddl.replace("#", "-").format(
        obj=game.object_type, recep=game.target, toggle=game.target
    )
    return re.sub(r"\s*\n\s*", "\n", filled).strip() + "\n"
