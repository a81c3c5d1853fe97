"""One ALFWorld game as a value, and as the JSON that the engine plays."""

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
    """A thing in a room: `id` as it stands in the problem, its type, and the id of the receptacle
    that holds it.
    """

    id: str
    type: str
    place: str


@dataclass(frozen=True, kw_only=True)
class DrawnGame:
    """A game. `target` is the receptacle type to fill, or for look_at_obj_in_light the lamp's type.

    No two receptacles share a location, and no thing of type `object_type` starts in a receptacle
    of type `target`. `template` is the task's sentence with gaps, one of the goal library's.
    """

    family: str
    scene: int
    object_type: str
    target: str
    template: str
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
        """Names as the player reads them (`drawer 2`), by id."""
        ids = [
            *(receptacle.id for receptacle in self.receptacles),
            *(thing.id for thing in self.things),
        ]
        names = player_names(i.lower() for i in ids)
        return {i: names[i.lower()] for i in ids}

    def signature(self) -> tuple[str, ...]:
        """All that a player can find out. Games of one signature are the same game, whatever their
        ids.
        """
        names = self.names
        things = sorted(f"{names[thing.id]} in {names[thing.place]}" for thing in self.things)
        return (self.family, self.sentence, *sorted(names[r.id] for r in self.receptacles), *things)

    def walkthrough(self) -> list[str]:
        """Commands that win, by somebody who knows where everything is."""
        names, opened = self.names, set[str]()
        by_id = {receptacle.id: receptacle for receptacle in self.receptacles}
        here = ""

        def visit(receptacle: LayoutReceptacle, *, inside: bool) -> Iterator[str]:
            nonlocal here
            if here != receptacle.id:
                yield f"go to {names[receptacle.id]}"
                here = receptacle.id
            if inside and receptacle.openable and receptacle.id not in opened:
                yield f"open {names[receptacle.id]}"
                opened.add(receptacle.id)

        def first_of(kind: str) -> LayoutReceptacle:
            return next(receptacle for receptacle in self.receptacles if receptacle.type == kind)

        commands: list[str] = []
        wanted = [thing for thing in self.things if thing.type == self.object_type]
        for thing in wanted[: 2 if self.family == TWO else 1]:
            name = names[thing.id]
            commands += [
                *visit(by_id[thing.place], inside=True),
                f"take {name} from {names[thing.place]}",
            ]
            if self.family == LOOK:
                lamp = next(thing for thing in self.things if thing.type == self.target)
                return [*commands, *visit(by_id[lamp.place], inside=False), f"use {names[lamp.id]}"]
            if self.family in CHANGE_OF_FAMILY:
                change = CHANGE_OF_FAMILY[self.family]
                tool = first_of(change.tool)
                use = f"{change.verb} {name} with {names[tool.id]}"
                commands += [*visit(tool, inside=False), use]
            target = first_of(self.target)
            commands += [*visit(target, inside=True), f"move {name} to {names[target.id]}"]
        return commands

    def to_json(self, name: str) -> dict[str, Any]:
        """The five keys of a game file."""
        domain, grammar = domain_and_grammar()
        return {
            "pddl_domain": domain,
            "grammar": grammar.replace("UNKNOWN GOAL", self.sentence),
            "pddl_problem": write_problem(self, name),
            "solvable": True,
            "walkthrough": self.walkthrough(),
        }


def write_problem(game: DrawnGame, name: str) -> str:
    """The PDDL problem, with no fact or type that the game can do without: the engine's time grows
    with each.
    """
    spots = [receptacle.location for receptacle in game.receptacles]
    start = next(
        spot for spot in (mangle(f"loc|0|0|{turn}|60") for turn in range(4)) if spot not in spots
    )
    declared = {
        "agent": [AGENT],
        "otype": [f"{kind}Type" for kind in sorted({thing.type for thing in game.things})],
        "rtype": [
            f"{kind}Type" for kind in sorted({receptacle.type for receptacle in game.receptacles})
        ],
        "object": [thing.id for thing in game.things],
        "receptacle": [receptacle.id for receptacle in game.receptacles],
        "location": [*spots, start],
    }
    lines = [f"    {' '.join(names)} - {kind}" for kind, names in declared.items()]
    facts = [
        f"    ({fact})"
        for fact in (f"atLocation {AGENT} {start}", *_receptacle_facts(game), *_thing_facts(game))
    ]
    head = f"(define (problem plan_{name})\n(:domain alfred)\n(:objects"
    return "\n".join([head, *lines, ")", "(:init", *facts, ")", _goal(game)])


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
    """An ability is left out where no receptacle makes use of it; nothing is sliceable, since no
    family slices.
    """
    present = {receptacle.type for receptacle in game.receptacles}
    able = constants().VAL_ACTION_OBJECTS
    used = {
        change.ability: able[change.ability.capitalize()]
        for change in CHANGES.values()
        if change.tool in present
    }
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
    """The goal of the library; `#` stands there for PDDL's `-`. It closes the problem's own bracket
    too.
    """
    pddl: str = goals().gdict[game.family]["pddl"]
    filled = pddl.replace("#", "-").format(
        obj=game.object_type, recep=game.target, toggle=game.target
    )
    return re.sub(r"\s*\n\s*", "\n", filled).strip() + "\n"
