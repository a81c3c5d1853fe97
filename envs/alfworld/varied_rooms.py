"""Data augmentation: a game in a varied room, so that knowing furniture by heart does not pay.

All games of a scene have the same furniture, and a policy remembers it. A varied room is put
together by lot from the training rooms of its type, the game's own among them:

- For each kind of furniture, the pieces of one of these rooms. So kinds are missing or new, or
  there are more or fewer pieces of them. The numbers of the pieces are new.
- Of all these pieces a share stays, which is drawn between a fifth and all; of each kind that the
  task needs, one stays anyway. Otherwise a policy that names the usual furniture of such a room is
  mostly right, and need not read the list.
- For each thing, a kind of furniture on which such a thing lies in one of them, and any piece of
  that kind. So usual places stay usual, and the task's things are elsewhere, too.

The task needs its target, its tool, and the kinds of furniture that hold its things and its lamp.
They stay, so the game can be won. No thing of the task begins at its goal. The task and the rules
are the game's own.
"""

import random
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from envs.alfworld.engines.game_file import THING_PREDICATES, Problem
from envs.alfworld.furniture import Kind, Piece, Room, room_of, room_type, training_rooms
from envs.alfworld.names import CHANGES
from envs.alfworld.package import constants

_LEAST_SHARE = 0.2
"""The smallest share of the drawn pieces that stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariedRoom:
    """Puts a game's problem into a varied room; a `vary` for `load_game`."""

    seed: str
    """Any text; the environment takes the game's id and the number of the variation."""
    scene: str
    """The number of the game's floor plan."""
    folder: Path
    """The folder that holds the split folders. Its training games have the rooms to draw from."""
    held_out: frozenset[str]
    """Scenes whose rooms are not drawn from."""

    def __call__(self, problem: Problem) -> Problem:
        """The problem in the varied room."""
        rooms = training_rooms(self.folder, self.held_out, room_type(self.scene))
        others = [room for scene, room in rooms.items() if scene != self.scene]
        return vary_room(problem, room_of(problem, self.scene), others, random.Random(self.seed))


def vary_room(problem: Problem, own: Room, others: Sequence[Room], rng: random.Random) -> Problem:
    """The problem in a varied room, without a walkthrough.

    Args:
        problem: the game's own.
        own: its room.
        others: further rooms to draw from.
        rng: decides everything.
    """
    rooms = [own, *others]
    pieces = _draw_pieces(rooms, _needed_kinds(problem, own), rng)
    places = _draw_places(problem, rooms, pieces, rng)
    return _problem_in(problem, pieces, places)


def _needed_kinds(problem: Problem, own: Room) -> set[Kind]:
    """The kinds of furniture without which the task could not be done.

    They are the target, the tool, and those that hold a thing of the task or a lamp for it.
    """
    goal = problem.goal
    types = set() if goal.lamp else {goal.target}
    if goal.verb:
        types.add(_as_in_problems(CHANGES[goal.verb].tool))
    needed = {piece.kind for piece in own.pieces if piece.kind.type in types}
    wanted = {goal.thing, goal.target} if goal.lamp else {goal.thing}
    return needed | {kind for _, thing_type, kind in own.things if thing_type in wanted}


def _draw_pieces(
    rooms: Sequence[Room], needed: Collection[Kind], rng: random.Random
) -> list[Piece]:
    """For each kind pieces of one of the rooms, or none; sorted by their new ids.

    Args:
        rooms: at least one of them has a piece of each needed kind.
        needed: the kinds that must not be missing.
        rng: draws the share of pieces that stay, and a room for each kind.
    """
    sorted_rooms = [_by_kind(room.pieces) for room in rooms]
    share = rng.uniform(_LEAST_SHARE, 1.0)
    drawn: list[Piece] = []
    for kind in sorted(set().union(*sorted_rooms)):
        sources = [pieces for pieces in sorted_rooms if kind in pieces or kind not in needed]
        pieces = rng.choice(sources).get(kind, [])
        stay = [piece for piece in pieces if rng.random() < share]
        drawn += stay or (pieces[:1] if kind in needed else [])
    # The player's numbers follow from the order of the ids.
    rng.shuffle(drawn)
    for number, piece in enumerate(drawn):
        drawn[number] = replace(piece, id=piece.kind.form.format(f"{number:03}"))
    drawn.sort(key=lambda piece: piece.id)
    # A toaster that stood at a counter's location stands at one again, if the room has counters.
    for index, piece in enumerate(drawn):
        locations = [each.location for each in drawn[:index] if each.kind.form == piece.beside]
        if locations:
            drawn[index] = replace(piece, location=rng.choice(locations))
    return drawn


def _by_kind(pieces: Sequence[Piece]) -> dict[Kind, list[Piece]]:
    by_kind: dict[Kind, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_kind[piece.kind].append(piece)
    return dict(by_kind)


def _draw_places(
    problem: Problem, rooms: Sequence[Room], pieces: Sequence[Piece], rng: random.Random
) -> dict[str, Piece]:
    """A piece for each thing that lay in furniture; without the things that fit nowhere.

    Args:
        problem: the game's own.
        rooms: they show where things usually lie; the first is the game's own.
        pieces: the furniture to put them on.
        rng: draws the kind of furniture, and then the piece.
    """
    usual: dict[str, list[Kind]] = defaultdict(list)
    for room in rooms:
        for _, thing_type, kind in room.things:
            usual[thing_type].append(kind)
    present = _by_kind(pieces)
    places = {}
    for thing, thing_type in sorted({(thing, kind) for thing, kind, _ in rooms[0].things}):
        kinds = []
        for kind in usual[thing_type]:
            if kind in present and not _might_win(problem, thing, thing_type, kind):
                kinds.append(kind)
        if kinds:
            places[thing] = rng.choice(present[rng.choice(kinds)])
    return places


def _might_win(problem: Problem, thing: str, thing_type: str, kind: Kind) -> bool:
    """Whether the thing would be at its goal on such furniture."""
    goal = problem.goal
    if goal.lamp or (thing_type, kind.type) != (goal.thing, goal.target):
        return False
    return not goal.verb or (thing,) in problem.facts.get(CHANGES[goal.verb].mark, ())


def _problem_in(problem: Problem, pieces: Sequence[Piece], places: Mapping[str, Piece]) -> Problem:
    """The problem with this furniture, and with each thing in its place.

    Things that lay in furniture and have no place any more are gone. Those that never lay in any
    cannot be reached, and stay as they are. No thing is in another one any more.
    """
    old = problem.facts
    gone = {thing for thing, _ in old.get("inreceptacle", ())} - places.keys()
    facts: dict[str, Sequence[Sequence[str]]] = {"atlocation": old["atlocation"]}
    for predicate in ("objecttype", *THING_PREDICATES):
        facts[predicate] = [row for row in old.get(predicate, ()) if row[0] not in gone]
    facts["receptacleatlocation"] = [(piece.id, piece.location) for piece in pieces]
    facts["receptacletype"] = [(piece.id, piece.kind.type) for piece in pieces if piece.kind.type]
    facts["openable"] = [(piece.id,) for piece in pieces if piece.openable]
    facts["cancontain"] = _acceptances(problem, {piece.kind.type for piece in pieces})
    facts["inreceptacle"] = [(thing, piece.id) for thing, piece in sorted(places.items())]
    spots = []
    for thing, location in old.get("objectatlocation", ()):
        if thing not in gone:
            spots.append((thing, places[thing].location if thing in places else location))
    facts["objectatlocation"] = sorted(spots)
    things = [thing for thing in problem.things if thing not in gone]
    return replace(problem, walkthrough=[], things=things, facts=facts)


def _acceptances(problem: Problem, place_types: Collection[str]) -> list[tuple[str, str]]:
    """The facts about which types of furniture take which types of this game's things.

    Furniture that is new to the game takes what the package says, as in all published games.
    """
    facts = set()
    for place_type, thing_type in problem.facts.get("cancontain", ()):
        if place_type in place_types:
            facts.add((place_type, thing_type))
    known = {place_type for _, place_type in problem.facts.get("receptacletype", ())}
    present = {thing_type for _, thing_type in problem.facts.get("objecttype", ())}
    for place_type in set(place_types) - known:
        for thing_type in present & _package_table().get(place_type, set()):
            facts.add((place_type, thing_type))
    return sorted(facts)


@cache
def _package_table() -> dict[str, set[str]]:
    """By type of furniture, the types of things that it can hold, spelled as in problems."""
    table = {}
    for place, things in constants().VAL_RECEPTACLE_OBJECTS.items():
        table[_as_in_problems(place)] = {_as_in_problems(thing) for thing in things}
    return table


def _as_in_problems(name: str) -> str:
    """A name of the package as problems spell it: `sinkbasintype` for `SinkBasin`."""
    return f"{name.lower()}type"
