"""ALFWorld's rules in plain Python: the commands, their conditions, their effects, their texts.

Everything is as in the PDDL domain and the grammar inside the game files, quirks included.
`agent-rl games verify` compares it with the stock engine, which interprets those two. The quirks:

- A thing may be in two receptacles at once. Taken from one, it is still seen in the other, and can
  be taken again.
- A thing that moves from one receptacle to another at the same location is also seen "next to it".
- `examine THING` works only for the thing in hand.
- Cleaning, heating and cooling work in closed receptacles.
- A lamp in a closed receptacle can be used. It never goes off, and says "turn on" every time.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envs.alfworld.engines.game import Game, Receptacle, Thing
from envs.alfworld.engines.state import State
from envs.alfworld.names import CHANGES
from envs.text_env import NOTHING_HAPPENS

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


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of command: when it is admissible, and its effect."""

    form: str
    """The command with a gap for each name: `take {} from {}`."""
    kinds: tuple[str, ...]
    """`thing` or `receptacle`, for each gap."""
    pattern: re.Pattern[str]
    """Matches such commands, with a group for each name."""
    allows: Callable[..., bool]
    """`allows(state, *parts)`: whether the command is admissible for these parts."""
    apply: Callable[..., str]
    """`apply(state, *parts)`: change the state, and return the text that the player reads."""

    def command(self, *parts: Thing | Receptacle) -> str:
        """The command about these parts."""
        return self.form.format(*[part.name for part in parts])

    def read(self, game: Game, command: str) -> tuple[Thing | Receptacle, ...] | None:
        """The parts that `command` names, in the order of the gaps.

        None if it has another form, or if the game has nothing of such a name.
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


def step(state: State, command: str) -> str:
    """Send a command: change the state, and return the text that the player reads.

    An inadmissible command changes nothing, and returns "Nothing happens.".
    """
    command = command.strip()
    for rule in RULES.get(command.partition(" ")[0], ()):
        parts = rule.read(state.game, command)
        if parts is not None and rule.allows(state, *parts):
            return rule.apply(state, *parts)
    return NOTHING_HAPPENS


def intro(state: State) -> str:
    """The first text of an episode: the room and the task."""
    around = _listed(state.game.receptacles.values())
    room = f"You are in the middle of a room. Looking quickly around you, you see {around}."
    if state.here:
        room = look.apply(state)
    return f"-= Welcome to TextWorld, ALFRED! =-\n\n{room}\n\n{state.game.sentence}"


def admissible_commands(state: State) -> list[str]:
    """All commands that are not answered with "Nothing happens.", sorted."""
    # A set: a thing that is in two receptacles here gives `use desklamp 1` twice.
    possible = {
        rule.command(*parts) for rule, parts in _within_reach(state) if rule.allows(state, *parts)
    }
    return sorted(possible.union(state.game.ways[state.at]))


def _within_reach(state: State) -> Iterator[tuple[Rule, tuple[Any, ...]]]:
    """Commands that may be admissible, given the things here and in hand.

    Trying every rule on every pair of names would take milliseconds. The `go to` commands are
    missing, since the game keeps a list of them for each location.
    """
    yield from _ALWAYS
    held = state.held
    for place in state.here:
        yield examine_receptacle, (place,)
        yield (close if place in state.opened else open_), (place,)
        for thing in state.contents[place]:
            yield take, (thing, place)
            yield use, (thing,)
        if held is not None:
            yield move, (held, place)
            for rule in (heat, clean, cool):
                yield rule, (held, place)
    if held is not None:
        yield examine_thing, (held,)
        for thing, location in state.spots:
            if location == state.at:
                yield slice_, (thing, held)


def _rule(form: str, allows: Callable[..., bool]) -> Callable[[Callable[..., str]], Rule]:
    """Turn the decorated function, which is the rule's `apply`, into a rule of `RULES`.

    Args:
        form: the command, with `{thing}` and `{receptacle}` for names.
        allows: the rule's condition; it gets the state and the named parts.
    """

    def make(apply: Callable[..., str]) -> Rule:
        kinds = tuple(re.findall(r"{(\w+)}", form))
        # `.+` takes any name, also "mug 1 from shelf 2" of "take mug 1 from shelf 2 from desk 1".
        # Rule.read() refuses it then, since the game has nothing of that name.
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
    if state.held is None:
        return "You are not carrying anything."
    return f"You are carrying: a {state.held.name}."


@_rule("look", lambda state: True)
def look(state: State) -> str:
    """Name the receptacles here; in mid-room list nothing, unlike the intro."""
    if not state.here:
        return "You are in the middle of a room. Looking quickly around you, you see nothing."
    facing = _joined([place.name for place in state.here])
    # A thing is "next to it" if it was taken from a receptacle here and put into another one here:
    # the domain then still knows it at this location, and no longer in the first receptacle.
    # With two pairs of one thing, the text names it twice.
    next_to = []
    for thing, place in state.left:
        if place.location == state.at and (thing, state.at) in state.spots:
            next_to.append((thing, place))
    next_to.sort(key=lambda pair: (pair[0].rank, pair[1].rank))
    things = _listed([thing for thing, _ in next_to])
    return f"You are facing the {facing}. Next to it, you see {things}."


@_rule("go to {receptacle}", lambda state, place: place.location != state.at)
def go_to(state: State, place: Receptacle) -> str:
    state.at = place.location
    return f"You arrive at {place.name}. {_described(state, place)}"


def _can_open(state: State, place: Receptacle) -> bool:
    return place.openable and place.location == state.at and place not in state.opened


@_rule("open {receptacle}", _can_open)
def open_(state: State, place: Receptacle) -> str:
    state.opened |= {place}
    return f"You open the {place.name}. {_described(state, place)}"


def _can_close(state: State, place: Receptacle) -> bool:
    return place.location == state.at and place in state.opened


@_rule("close {receptacle}", _can_close)
def close(state: State, place: Receptacle) -> str:
    state.opened -= {place}
    return f"You close the {place.name}."


def _can_take(state: State, thing: Thing, place: Receptacle) -> bool:
    return (
        thing.pickupable
        and state.held is None
        and state.accessible(place)
        and thing in state.contents[place]
    )


@_rule("take {thing} from {receptacle}", _can_take)
def take(state: State, thing: Thing, place: Receptacle) -> str:
    state.held = thing
    # Taken from this receptacle only: if another one shows the thing too, it keeps showing it.
    rest = tuple(each for each in state.contents[place] if each is not thing)
    state.contents = {**state.contents, place: rest}
    # The domain removes the fact for the player's location. A thing whose fact names another
    # location keeps that fact, and can still be sliced from there.
    state.spots -= {(thing, state.at)}
    state.left |= {(thing, place)}
    return f"You pick up the {thing.name} from the {place.name}."


def _can_move(state: State, thing: Thing, place: Receptacle) -> bool:
    return state.held is thing and state.accessible(place) and thing.type in place.accepts


@_rule("move {thing} to {receptacle}", _can_move)
def move(state: State, thing: Thing, place: Receptacle) -> str:
    state.held = None
    # A set, because a thing that is in two receptacles may come back to one that still shows it.
    inside = {*state.contents[place], thing}
    state.contents = {**state.contents, place: tuple(sorted(inside, key=lambda each: each.rank))}
    state.spots |= {(thing, state.at)}
    state.left -= {(thing, place)}
    return f"You move the {thing.name} to the {place.name}."


def _can_change(verb: str) -> Callable[[State, Thing, Receptacle], bool]:
    def allows(state: State, thing: Thing, place: Receptacle) -> bool:
        # Accessible or not: a closed microwave heats too.
        here = place.location == state.at
        return here and place.tool == verb and state.held is thing and verb in thing.abilities

    return allows


@_rule("clean {thing} with {receptacle}", _can_change("clean"))
def clean(state: State, thing: Thing, place: Receptacle) -> str:
    state.changed = {**state.changed, "clean": state.changed["clean"] | {thing}}
    return f"You clean the {thing.name} using the {place.name}."


@_rule("heat {thing} with {receptacle}", _can_change("heat"))
def heat(state: State, thing: Thing, place: Receptacle) -> str:
    # A thing is hot or cool, never both; clean things stay clean.
    hot, cold = state.changed["heat"] | {thing}, state.changed["cool"] - {thing}
    state.changed = {**state.changed, "heat": hot, "cool": cold}
    return f"You heat the {thing.name} using the {place.name}."


@_rule("cool {thing} with {receptacle}", _can_change("cool"))
def cool(state: State, thing: Thing, place: Receptacle) -> str:
    hot, cold = state.changed["heat"] - {thing}, state.changed["cool"] | {thing}
    state.changed = {**state.changed, "heat": hot, "cool": cold}
    return f"You cool the {thing.name} using the {place.name}."


def _can_use(state: State, thing: Thing) -> bool:
    # Not `accessible`: a lamp in a closed cabinet can be used.
    return thing.toggleable and any(thing in state.contents[place] for place in state.here)


@_rule("use {thing}", _can_use)
def use(state: State, thing: Thing) -> str:
    state.lit |= {thing}
    return f"You turn on the {thing.name}."


def _can_slice(state: State, thing: Thing, knife: Thing) -> bool:
    in_hand = knife.knife and state.held is knife
    return in_hand and thing.sliceable and (thing, state.at) in state.spots


@_rule("slice {thing} with {thing}", _can_slice)
def slice_(state: State, thing: Thing, knife: Thing) -> str:
    state.sliced |= {thing}
    return f"You sliced the {thing.name} with the {knife.name}."


@_rule("examine {receptacle}", lambda state, place: place.location == state.at)
def examine_receptacle(state: State, place: Receptacle) -> str:
    return _described(state, place)


@_rule("examine {thing}", lambda state, thing: state.held is thing)
def examine_thing(state: State, thing: Thing) -> str:
    """Describe the thing in hand by the first of the grammar's rules that fits.

    A thing that can hold others shows only those. A sliced or clean thing is "cool", and a thing
    that is merely cool is "cold".
    """
    if thing.holds is not None:
        inside = _joined([f"a {name}" for name in thing.holds])
        return f"This is a normal {thing.name}. In it, you see {inside}."
    # In the grammar's order: "hot and clean sliced", "clean sliced", "hot sliced", "cold", "is on".
    is_clean, is_hot, is_cool = (thing in state.changed[verb] for verb in CHANGES)
    warmth = "hot" if is_hot else "cool" if is_cool else ""
    cut = " sliced" if thing in state.sliced else ""
    if is_clean:
        return f"This is a {warmth + ' and ' if warmth else ''}clean{cut} {thing.name}."
    if warmth:
        return f"This is a {'cold' if warmth == 'cool' and not cut else warmth}{cut} {thing.name}."
    if thing in state.lit:
        return f"This {thing.name} is on."
    if cut:
        return f"This is a sliced {thing.name}."
    return f"There's nothing special about {thing.name}."


_ALWAYS: tuple[tuple[Rule, tuple[Any, ...]], ...] = ((help_, ()), (inventory, ()), (look, ()))
"""The commands that are admissible everywhere."""


def _described(state: State, place: Receptacle) -> str:
    """The text about a receptacle and the things in plain sight in it."""
    if place in state.opened:
        return f"The {place.name} is open. In it, you see {_listed(state.contents[place])}."
    if place.openable:
        return f"The {place.name} is closed."
    return f"On the {place.name}, you see {_listed(state.contents[place])}."


def _listed(parts: Iterable[Thing | Receptacle]) -> str:
    """The names in a row, each with its article: "a mug 1, and a pen 2"."""
    return _joined([f"a {part.name}" for part in parts])


def _joined(words: list[str]) -> str:
    """The words in a row with ", and " before the last; "nothing" if there are none."""
    if len(words) < 2:
        return words[0] if words else "nothing"
    return f"{', '.join(words[:-1])}, and {words[-1]}"
