"""One ALFWorld game as the native engine plays it: put together once, never changed, shared by all
of its episodes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from envs.alfworld.engines.game_file import THING_PREDICATES, Facts, Goal, Problem
from envs.alfworld.names import CHANGES

_KNIVES = ("knifetype", "butterknifetype")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Thing:
    """Something that may be carried. `rank` is its place in the order of the ids, by which texts
    list things.

    `abilities`: which of `CHANGES` can be done to it. `holds`: for a thing that can hold others, the
    names of those.
    """

    rank: int
    name: str
    type: str
    pickupable: bool
    toggleable: bool
    sliceable: bool
    knife: bool
    abilities: frozenset[str]
    holds: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Receptacle:
    """A piece of furniture. Several may share a `location`. `tool`: which of `CHANGES` can be done
    with it, or "".
    """

    rank: int
    name: str
    type: str
    location: str
    openable: bool
    tool: str
    accepts: frozenset[str]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Game:
    """What never changes in an episode, and how it starts: `start`, `contents`, `spots`, `cool`.

    `at` gives the receptacles at a location and `ways` the commands that lead away; `targets` are
    the ones to fill. `spots` are pairs of a thing and the location from which it can be reached.
    """

    sentence: str
    goal: Goal
    walkthrough: tuple[str, ...]
    things: Mapping[str, Thing]
    receptacles: Mapping[str, Receptacle]
    at: Mapping[str, tuple[Receptacle, ...]]
    ways: Mapping[str, tuple[str, ...]]
    targets: tuple[Receptacle, ...]
    start: str
    contents: Mapping[Receptacle, tuple[Thing, ...]]
    spots: frozenset[tuple[Thing, str]]
    cool: frozenset[Thing]


def player_names(ids: Iterable[str]) -> dict[str, str]:
    """What the player reads for each id (`drawer 2`): numbered down in the order of the ids, kind
    by kind.
    """
    kinds = {i: i.partition("_bar_")[0] + ("basin" if "basin" in i else "") for i in sorted(ids)}
    left = Counter(kinds.values())
    names = {}
    for i, kind in kinds.items():
        names[i] = f"{kind} {left[kind]}"
        left[kind] -= 1
    return names


def build_game(problem: Problem) -> Game:
    """The game that a problem describes."""
    facts = defaultdict(list, problem.facts)
    names = player_names([*problem.things, *(place for place, _ in facts["receptacleatlocation"])])
    things = _things(facts, problem.things, names)
    tools = {f"{CHANGES[verb].tool.lower()}type": verb for verb in ("heat", "cool")}
    tools |= dict.fromkeys(problem.cleaners, "clean")
    receptacles = _receptacles(facts, names, tools)
    at: dict[str, list[Receptacle]] = defaultdict(list)
    for receptacle in receptacles.values():
        at[receptacle.location].append(receptacle)
    contents: dict[Receptacle, list[Thing]] = {
        receptacle: [] for receptacle in receptacles.values()
    }
    for thing, place in facts["inreceptacle"]:
        contents[receptacles[place]].append(things[thing])
    ((_, start),) = facts["atlocation"]
    return Game(
        sentence=problem.sentence,
        goal=problem.goal,
        walkthrough=tuple(problem.walkthrough),
        things={thing.name: thing for thing in things.values()},
        receptacles={receptacle.name: receptacle for receptacle in receptacles.values()},
        at={location: tuple(here) for location, here in at.items()},
        ways=_ways(receptacles.values(), (start, *at)),
        targets=tuple(
            receptacle
            for receptacle in receptacles.values()
            if receptacle.type == problem.goal.target
        ),
        start=start,
        contents={receptacle: tuple(inside) for receptacle, inside in contents.items()},
        spots=frozenset((things[thing], location) for thing, location in facts["objectatlocation"]),
        cool=frozenset(things[thing] for (thing,) in facts["iscool"]),
    )


def _things(facts: Facts, ids: Sequence[str], names: Mapping[str, str]) -> dict[str, Thing]:
    types = _pairs(facts["objecttype"])
    marked = {predicate: {thing for (thing,) in facts[predicate]} for predicate in THING_PREDICATES}
    inside: dict[str, list[str]] = {thing: [] for thing in marked["isreceptacleobject"]}
    for inner, outer in facts["inreceptacleobject"]:
        if outer in inside:
            inside[outer].append(names[inner])
    return {
        i: Thing(
            rank=rank,
            name=names[i],
            type=types.get(i, ""),
            pickupable=i in marked["pickupable"],
            toggleable=i in marked["toggleable"],
            sliceable=i in marked["sliceable"],
            knife=types.get(i) in _KNIVES,
            abilities=frozenset(
                verb for verb, change in CHANGES.items() if i in marked[change.ability]
            ),
            holds=tuple(inside[i]) if i in inside else None,
        )
        for rank, i in enumerate(ids)
    }


def _receptacles(
    facts: Facts, names: Mapping[str, str], tools: Mapping[str, str]
) -> dict[str, Receptacle]:
    types = _pairs(facts["receptacletype"])
    openable = {place for (place,) in facts["openable"]}
    accepted: dict[str, set[str]] = defaultdict(set)
    for kind, thing_type in facts["cancontain"]:
        accepted[kind].add(thing_type)
    accepts = {kind: frozenset(thing_types) for kind, thing_types in accepted.items()}
    return {
        i: Receptacle(
            rank=rank,
            name=names[i],
            type=types.get(i, ""),
            location=location,
            openable=i in openable,
            tool=tools.get(types.get(i, ""), ""),
            accepts=accepts.get(types.get(i, ""), frozenset()),
        )
        for rank, (i, location) in enumerate(facts["receptacleatlocation"])
    }


def _pairs(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    return {row[0]: row[1] for row in rows}


def _ways(
    receptacles: Iterable[Receptacle], locations: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The commands that lead away from each location."""
    commands = {f"go to {receptacle.name}": receptacle.location for receptacle in receptacles}
    return {
        here: tuple(command for command, there in commands.items() if there != here)
        for here in locations
    }
