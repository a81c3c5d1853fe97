"""ALFWorld's rules in plain Python: what may be done in a state, what it changes, and what the
player then reads.

The texts, the commands and their effects are those of the PDDL domain and the grammar that the game
files hold, quirks included; `agent-rl games verify` compares them with the engine that interprets
those two. The quirks:

  - A thing may be in two receptacles at once; taken from one, it is still seen in the other and can
  be taken again.
  - A thing that is taken from one receptacle and put into another at the same location is also seen
  "next to it".
  - `examine THING` works only for the thing in hand. Cleaning, heating and cooling need nothing to
  be opened.
- A lamp in a closed receptacle can be used; it never goes off, and says "turn on" every time.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from envs.alfworld.engines.game import Game, Receptacle, Thing
from envs.alfworld.names import AGENT, CHANGES

NOTHING_HAPPENS = "Nothing happens."

_HELP = """Available commands:
  look:                             look around your current location
  inventory:                        check your current inventory
  go to (receptacle):               move to a receptacle
  open (receptacle):                open a receptacle
  close (receptacle):               close a receptacle
  take (object) from (receptacle):  take an object from a receptacle
  move (object) to (receptacle):  place an object in or on a receptacle
  examine (something):              examine a receptacle or an object
  use (object):                     use an object
  heat (object) with (receptacle):  heat an object using a receptacle
  clean (object) with (receptacle): clean an object using a receptacle
  cool (object) with (receptacle):  cool an object using a receptacle
  slice (object) with (object):     slice an object using a sharp object"""


class State:
    """One episode of a game. Each part of it is a value that is replaced and never changed: a copy
    shares them all.
    """

    __slots__ = (
        "at",
        "changed",
        "contents",
        "game",
        "held",
        "left",
        "lit",
        "opened",
        "sliced",
        "spots",
    )

    def __init__(self, game: Game) -> None:
        self.game = game
        self.at = game.start
        self.held: Thing | None = None
        self.contents = game.contents
        self.spots = game.spots
        self.opened: frozenset[Receptacle] = frozenset()
        self.changed: dict[str, frozenset[Thing]] = {
            "clean": frozenset(),
            "heat": frozenset(),
            "cool": game.cool,
        }
        self.sliced: frozenset[Thing] = frozenset()
        self.lit: frozenset[Thing] = frozenset()
        self.left: frozenset[tuple[Thing, Receptacle]] = frozenset()

    def clone(self) -> Self:
        """The same state, for another way on."""
        copy = type(self).__new__(type(self))
        for part in State.__slots__:
            setattr(copy, part, getattr(self, part))
        return copy

    def step(self, command: str) -> str:
        """Do what `command` says and return what the player reads; "Nothing happens." where it is
        not admissible.
        """
        command = command.strip()
        for rule in RULES.get(command.partition(" ")[0], ()):
            parts = rule.read(self.game, command)
            if parts is not None and rule.allows(self, *parts):
                return rule.apply(self, *parts)
        return NOTHING_HAPPENS

    def intro(self) -> str:
        """What the player reads at the start."""
        around = _listed(self.game.receptacles.values())
        in_the_room = (
            f"You are in the middle of a room. Looking quickly around you, you see {around}."
        )
        seen = look.apply(self) if self.here else in_the_room
        return f"-= Welcome to TextWorld, ALFRED! =-\n\n{seen}\n\n{self.game.sentence}"

    def admissible_commands(self) -> list[str]:
        """What may be done now, sorted."""
        possible = {
            rule.command(*parts)
            for rule, parts in self._within_reach()
            if rule.allows(self, *parts)
        }
        return sorted(possible.union(self.game.ways[self.at]))

    def _within_reach(self) -> Iterator[tuple["Rule", tuple[Any, ...]]]:
        """What the player could try with what is here and in hand; ways to other places aside,
        which a game keeps.
        """
        yield from _ALWAYS
        held = self.held
        for place in self.here:
            yield examine_receptacle, (place,)
            yield (close if place in self.opened else open_), (place,)
            for thing in self.contents[place]:
                yield take, (thing, place)
                yield use, (thing,)
            if held is not None:
                yield move, (held, place)
                for rule in (heat, clean, cool):
                    yield rule, (held, place)
        if held is not None:
            yield examine_thing, (held,)
            for thing, location in self.spots:
                if location == self.at:
                    yield slice_, (thing, held)

    def facts(self) -> tuple[str, ...]:
        """What is true of the predicates in `EXPERT_FACTS`, as the stock engine puts it, sorted."""
        held = [] if self.held is None else [f"holds {AGENT} {self.held.name}"]
        inside = [
            f"inreceptacle {thing.name} {place.name}"
            for place, things in self.contents.items()
            for thing in things
        ]
        changed = [
            f"{CHANGES[verb].mark} {thing.name}"
            for verb, things in self.changed.items()
            for thing in things
        ]
        return tuple(sorted((*held, *inside, *changed)))

    @property
    def here(self) -> tuple[Receptacle, ...]:
        """The receptacles at the player's location."""
        return self.game.at.get(self.at, ())

    def accessible(self, place: Receptacle) -> bool:
        """Whether `place` is here and not closed."""
        return place.location == self.at and (not place.openable or place in self.opened)

    @property
    def won(self) -> bool:
        goal = self.game.goal
        if goal.lamp:
            in_light = any(
                thing.type == goal.target and thing in self.lit
                for place in self.here
                for thing in self.contents[place]
            )
            return in_light and self.held is not None and self.held.type == goal.thing
        return any(
            sum(map(self._is_as_asked, self.contents[place])) >= goal.count
            for place in self.game.targets
        )

    def _is_as_asked(self, thing: Thing) -> bool:
        goal = self.game.goal
        done = not goal.verb or (goal.verb in thing.abilities and thing in self.changed[goal.verb])
        return thing.type == goal.thing and done


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of action. `form` is its command, with `{thing}` and `{receptacle}` for what it is
    done to.

    `allows(state, *parts)` is its precondition; `apply(state, *parts)` changes the state and
    returns the text to read.
    """

    form: str
    kinds: tuple[str, ...]
    pattern: re.Pattern[str]
    allows: Callable[..., bool]
    apply: Callable[..., str]

    def command(self, *parts: Thing | Receptacle) -> str:
        return self.form.format(*[part.name for part in parts])

    def read(self, game: Game, command: str) -> tuple[Thing | Receptacle, ...] | None:
        """What `command` is about, in the order of the form; None where it has another form or
        names nothing here.
        """
        match = self.pattern.fullmatch(command)
        if match is None:
            return None
        parts = []
        for kind, name in zip(self.kinds, match.groups(), strict=True):
            named: Mapping[str, Thing | Receptacle] = (
                game.things if kind == "thing" else game.receptacles
            )
            if name not in named:
                return None
            parts.append(named[name])
        return tuple(parts)


RULES: dict[str, list[Rule]] = {}
"""All rules, by the first word of their commands."""


def _rule(form: str, allows: Callable[..., bool]) -> Callable[[Callable[..., str]], Rule]:
    """Make the decorated function, which applies it, a rule."""

    def make(apply: Callable[..., str]) -> Rule:
        kinds = tuple(re.findall(r"{(\w+)}", form))
        pattern = re.compile(re.sub(r"{\w+}", "(.+)", form))
        rule = Rule(re.sub(r"{\w+}", "{}", form), kinds, pattern, allows, apply)
        RULES.setdefault(form.partition(" ")[0], []).append(rule)
        return rule

    return make


@_rule("help", lambda state: True)
def help_(state: State) -> str:
    return _HELP


@_rule("inventory", lambda state: True)
def inventory(state: State) -> str:
    return (
        "You are not carrying anything."
        if state.held is None
        else f"You are carrying: a {state.held.name}."
    )


@_rule("look", lambda state: True)
def look(state: State) -> str:
    """In mid-room it lists nothing, unlike the intro."""
    if not state.here:
        return "You are in the middle of a room. Looking quickly around you, you see nothing."
    facing = _joined([place.name for place in state.here])
    beside = sorted(
        (
            (thing, place)
            for thing, place in state.left
            if place.location == state.at and (thing, state.at) in state.spots
        ),
        key=lambda pair: (pair[0].rank, pair[1].rank),
    )
    return f"You are facing the {facing}. Next to it, you see {_listed([thing for thing, _ in beside])}."


@_rule("go to {receptacle}", lambda state, place: place.location != state.at)
def go_to(state: State, place: Receptacle) -> str:
    state.at = place.location
    return f"You arrive at {place.name}. {_described(state, place)}"


@_rule(
    "open {receptacle}",
    lambda state, place: (
        place.openable and state.at == place.location and place not in state.opened
    ),
)
def open_(state: State, place: Receptacle) -> str:
    state.opened |= {place}
    return f"You open the {place.name}. {_described(state, place)}"


@_rule(
    "close {receptacle}", lambda state, place: place.location == state.at and place in state.opened
)
def close(state: State, place: Receptacle) -> str:
    state.opened -= {place}
    return f"You close the {place.name}."


@_rule(
    "take {thing} from {receptacle}",
    lambda state, thing, place: (
        thing.pickupable
        and state.held is None
        and state.accessible(place)
        and thing in state.contents[place]
    ),
)
def take(state: State, thing: Thing, place: Receptacle) -> str:
    state.held = thing
    state.contents = {
        **state.contents,
        place: tuple(other for other in state.contents[place] if other is not thing),
    }
    state.spots -= {(thing, state.at)}
    state.left |= {(thing, place)}
    return f"You pick up the {thing.name} from the {place.name}."


@_rule(
    "move {thing} to {receptacle}",
    lambda state, thing, place: (
        state.held is thing and state.accessible(place) and thing.type in place.accepts
    ),
)
def move(state: State, thing: Thing, place: Receptacle) -> str:
    state.held = None
    inside = {*state.contents[place], thing}
    state.contents = {**state.contents, place: tuple(sorted(inside, key=lambda other: other.rank))}
    state.spots |= {(thing, state.at)}
    state.left -= {(thing, place)}
    return f"You move the {thing.name} to the {place.name}."


def _can_change(verb: str) -> Callable[[State, Thing, Receptacle], bool]:
    def allows(state: State, thing: Thing, place: Receptacle) -> bool:
        here = place.location == state.at
        return here and place.tool == verb and state.held is thing and verb in thing.abilities

    return allows


@_rule("clean {thing} with {receptacle}", _can_change("clean"))
def clean(state: State, thing: Thing, place: Receptacle) -> str:
    state.changed = {**state.changed, "clean": state.changed["clean"] | {thing}}
    return f"You clean the {thing.name} using the {place.name}."


@_rule("heat {thing} with {receptacle}", _can_change("heat"))
def heat(state: State, thing: Thing, place: Receptacle) -> str:
    hot, cold = state.changed["heat"] | {thing}, state.changed["cool"] - {thing}
    state.changed = {**state.changed, "heat": hot, "cool": cold}
    return f"You heat the {thing.name} using the {place.name}."


@_rule("cool {thing} with {receptacle}", _can_change("cool"))
def cool(state: State, thing: Thing, place: Receptacle) -> str:
    hot, cold = state.changed["heat"] - {thing}, state.changed["cool"] | {thing}
    state.changed = {**state.changed, "heat": hot, "cool": cold}
    return f"You cool the {thing.name} using the {place.name}."


@_rule(
    "use {thing}",
    lambda state, thing: (
        thing.toggleable and any(thing in state.contents[place] for place in state.here)
    ),
)
def use(state: State, thing: Thing) -> str:
    state.lit |= {thing}
    return f"You turn on the {thing.name}."


@_rule(
    "slice {thing} with {thing}",
    lambda state, thing, knife: (
        thing.sliceable and knife.knife and state.held is knife and (thing, state.at) in state.spots
    ),
)
def slice_(state: State, thing: Thing, knife: Thing) -> str:
    state.sliced |= {thing}
    return f"You sliced the {thing.name} with the {knife.name}."


@_rule("examine {receptacle}", lambda state, place: place.location == state.at)
def examine_receptacle(state: State, place: Receptacle) -> str:
    return _described(state, place)


@_rule("examine {thing}", lambda state, thing: state.held is thing)
def examine_thing(state: State, thing: Thing) -> str:
    """As the grammar has it: what can hold others tells no more, and what is merely cool is "cold"."""
    if thing.holds is not None:
        return f"This is a normal {thing.name}. In it, you see {_joined([f'a {name}' for name in thing.holds])}."
    is_clean, is_hot, is_cool = (thing in state.changed[verb] for verb in CHANGES)
    warmth = "hot" if is_hot else "cool" if is_cool else ""
    cut = " sliced" if thing in state.sliced else ""
    if is_clean:
        return f"This is a {warmth + ' and ' if warmth else ''}clean{cut} {thing.name}."
    if warmth:
        return f"This is a {'cold' if warmth == 'cool' and not cut else warmth}{cut} {thing.name}."
    if thing in state.lit:
        return f"This {thing.name} is on."
    return (
        f"This is a sliced {thing.name}." if cut else f"There's nothing special about {thing.name}."
    )


_ALWAYS: tuple[tuple[Rule, tuple[Any, ...]], ...] = ((help_, ()), (inventory, ()), (look, ()))


def _described(state: State, place: Receptacle) -> str:
    if place in state.opened:
        return f"The {place.name} is open. In it, you see {_listed(state.contents[place])}."
    if place.openable:
        return f"The {place.name} is closed."
    return f"On the {place.name}, you see {_listed(state.contents[place])}."


def _listed(parts: Iterable[Thing | Receptacle]) -> str:
    return _joined([f"a {part.name}" for part in parts])


def _joined(words: list[str]) -> str:
    if len(words) < 2:
        return words[0] if words else "nothing"
    return f"{', '.join(words[:-1])}, and {words[-1]}"
