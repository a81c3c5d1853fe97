"""One ALFWorld game as the native engine plays it: built once, never changed, shared by episodes.

Parsed games are kept in memory only. A cache on disk would save little: all 3,553 training games
parse in 9 seconds (2.5 ms each), and a process parses a game once.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from envs.alfworld.data import read_game
from envs.alfworld.engines.game_file import (
    THING_PREDICATES,
    Facts,
    Goal,
    Problem,
    UnknownToNativeEngine,
    pairs,
    read_problem,
)
from envs.alfworld.names import CHANGES

_GAMES_IN_MEMORY = 512
"""Some 30 MB: a game has 56 KB."""
Variation = Callable[[Problem], Problem]
"""Makes another problem of a game's own; see `load_game`."""
_KNIVES = ("knifetype", "butterknifetype")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Thing:
    """Something that a player may carry. Compared by identity, so sets of things are quick."""

    rank: int
    """Its place in the order of the ids. The texts list things in this order."""
    name: str
    """As the player reads it: `mug 2`."""
    type: str
    """As the problem spells it, in lower case: `mugtype`; "" if the problem does not say."""
    pickupable: bool
    toggleable: bool
    """Whether it can be turned on, as a lamp can."""
    sliceable: bool
    knife: bool
    """Whether it slices others."""
    abilities: frozenset[str]
    """The verbs of `CHANGES` that can be done to it."""
    holds: tuple[str, ...] | None
    """The names of the things in it; None if it cannot hold any."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Receptacle:
    """A piece of furniture. Compared by identity."""

    rank: int
    """Its place in the order of the ids."""
    name: str
    """As the player reads it: `fridge 1`."""
    type: str
    """As the problem spells it, in lower case: `fridgetype`; "" if the problem does not say."""
    location: str
    """Where the player stands to use it. Several receptacles may share one location."""
    openable: bool
    tool: str
    """The verb of `CHANGES` that it can do, or ""."""
    accepts: frozenset[str]
    """The types of things that can be put there."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Game:
    """Everything that never changes in an episode, and the state at its start."""

    sentence: str
    """The task: `Your task is to: ...`."""
    goal: Goal
    walkthrough: tuple[str, ...]
    """Commands that win; empty if the file has none."""
    things: Mapping[str, Thing]
    """All things, by name."""
    receptacles: Mapping[str, Receptacle]
    """All receptacles, by name."""
    at: Mapping[str, tuple[Receptacle, ...]]
    """The receptacles at each location."""
    ways: Mapping[str, tuple[str, ...]]
    """The `go to` commands that are admissible at each location."""
    targets: tuple[Receptacle, ...]
    """The receptacles that the goal is about."""
    start: str
    """The player's first location."""
    contents: Mapping[Receptacle, tuple[Thing, ...]]
    """The things in each receptacle at the start."""
    spots: frozenset[tuple[Thing, str]]
    """Pairs of a thing and a location from which it can be sliced (facts `objectatlocation`)."""
    cool: frozenset[Thing]
    """The things that are cool at the start."""


def load_game(path: Path, vary: Variation | None = None) -> Game:
    """The game in a `game.tw-pddl`; the last few hundred games stay in memory.

    Args:
        path: the game's file.
        vary: makes another problem of the one in the file. It must be hashable, and equal ones
            must do the same.

    Raises:
        ValueError: the file is no game, or the native engine has no rule for a part of it.
    """
    stat = path.stat()
    return _load(path, stat.st_size, stat.st_mtime_ns, vary)


@lru_cache(_GAMES_IN_MEMORY)
def _load(path: Path, size: int, changed_ns: int, vary: Variation | None) -> Game:
    """Size and time are part of the key: a file that was written again is read again."""
    problem = parse_problem(path)
    return build_game(vary(problem) if vary else problem)


def parse_game(path: Path) -> Game:
    """The game in a `game.tw-pddl`, read from the file each time (see `load_game`)."""
    return build_game(parse_problem(path))


def parse_problem(path: Path) -> Problem:
    """The problem in a `game.tw-pddl`; errors as of `load_game`."""
    try:
        return read_problem(read_game(path))
    except UnknownToNativeEngine as error:
        raise ValueError(
            f"{path}: the native engine has no rules for this game: {error}; "
            "set env.options.engine: textworld to play it with the stock engine"
        ) from error


def player_names(ids: Iterable[str]) -> dict[str, str]:
    """The name that the player reads for each id, numbered down in the order of the ids.

    >>> player_names(["mug_bar_1", "mug_bar_2", "sink_bar_1_bar_sinkbasin"])
    {'mug_bar_1': 'mug 2', 'mug_bar_2': 'mug 1', 'sink_bar_1_bar_sinkbasin': 'sinkbasin 1'}
    """
    # "sink_bar_1_bar_sinkbasin" is the basin, a part of the sink "sink_bar_1".
    kinds = {}
    for name_id in sorted(ids):
        kinds[name_id] = name_id.partition("_bar_")[0] + ("basin" if "basin" in name_id else "")
    number = Counter(kinds.values())
    names = {}
    for name_id, kind in kinds.items():
        names[name_id] = f"{kind} {number[kind]}"
        number[kind] -= 1
    return names


def build_game(problem: Problem) -> Game:
    """The game that a problem describes."""
    # By predicate, rows such as ("apple_bar_1", "countertop_bar_1") of `inreceptacle`, sorted.
    facts = defaultdict(list, problem.facts)
    names = player_names([*problem.things, *(place for place, _ in facts["receptacleatlocation"])])
    things = _things(facts, problem.things, names)
    tools = {f"{CHANGES[verb].tool.lower()}type": verb for verb in ("heat", "cool")}
    # In the published games a sink cleans, in the generated ones only its basin does.
    tools |= dict.fromkeys(problem.cleaners, "clean")
    receptacles = _receptacles(facts, names, tools)
    # Both dictionaries keep the order of the ids, in which the texts list things and places.
    at: dict[str, list[Receptacle]] = defaultdict(list)
    contents: dict[Receptacle, list[Thing]] = {}
    for receptacle in receptacles.values():
        at[receptacle.location].append(receptacle)
        contents[receptacle] = []
    for thing, place in facts["inreceptacle"]:
        contents[receptacles[place]].append(things[thing])
    targets = [each for each in receptacles.values() if each.type == problem.goal.target]
    ((_, start),) = facts["atlocation"]
    return Game(
        sentence=problem.sentence,
        goal=problem.goal,
        walkthrough=tuple(problem.walkthrough),
        things={thing.name: thing for thing in things.values()},
        receptacles={receptacle.name: receptacle for receptacle in receptacles.values()},
        at={location: tuple(here) for location, here in at.items()},
        ways=_ways(receptacles.values(), (start, *at)),
        targets=tuple(targets),
        start=start,
        contents={receptacle: tuple(inside) for receptacle, inside in contents.items()},
        spots=frozenset((things[thing], location) for thing, location in facts["objectatlocation"]),
        cool=frozenset(things[thing] for (thing,) in facts["iscool"]),
    )


def _things(facts: Facts, ids: Sequence[str], names: Mapping[str, str]) -> dict[str, Thing]:
    """All things, by id."""
    types = pairs(facts["objecttype"])
    marked = {}
    for predicate in THING_PREDICATES:
        marked[predicate] = {thing for (thing,) in facts[predicate]}
    # A plate that holds an egg: `isreceptacleobject plate`, `inreceptacleobject egg plate`.
    inside: dict[str, list[str]] = {thing: [] for thing in marked["isreceptacleobject"]}
    for inner, outer in facts["inreceptacleobject"]:
        if outer in inside:
            inside[outer].append(names[inner])
    things = {}
    for rank, thing in enumerate(ids):
        abilities = [verb for verb, change in CHANGES.items() if thing in marked[change.ability]]
        things[thing] = Thing(
            rank=rank,
            name=names[thing],
            type=types.get(thing, ""),
            pickupable=thing in marked["pickupable"],
            toggleable=thing in marked["toggleable"],
            sliceable=thing in marked["sliceable"],
            knife=types.get(thing) in _KNIVES,
            abilities=frozenset(abilities),
            holds=tuple(inside[thing]) if thing in inside else None,
        )
    return things


def _receptacles(
    facts: Facts, names: Mapping[str, str], tools: Mapping[str, str]
) -> dict[str, Receptacle]:
    """All receptacles, by id; `tools` has the verb that a type of them can do."""
    types = pairs(facts["receptacletype"])
    openable = {place for (place,) in facts["openable"]}
    accepts: dict[str, set[str]] = defaultdict(set)
    for place_type, thing_type in facts["cancontain"]:
        accepts[place_type].add(thing_type)
    # Receptacles of one type share their set: a room has dozens of drawers.
    shared = {place_type: frozenset(thing_types) for place_type, thing_types in accepts.items()}
    receptacles = {}
    for rank, (place, location) in enumerate(facts["receptacleatlocation"]):
        place_type = types.get(place, "")
        receptacles[place] = Receptacle(
            rank=rank,
            name=names[place],
            type=place_type,
            location=location,
            openable=place in openable,
            tool=tools.get(place_type, ""),
            accepts=shared.get(place_type, frozenset()),
        )
    return receptacles


def _ways(
    receptacles: Iterable[Receptacle], locations: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The `go to` commands that lead away from each location."""
    ways: dict[str, tuple[str, ...]] = {}
    commands = {f"go to {receptacle.name}": receptacle.location for receptacle in receptacles}
    for location in locations:
        ways[location] = tuple(command for command, place in commands.items() if place != location)
    return ways
