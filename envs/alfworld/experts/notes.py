"""Reads ALFWorld's texts: the task of an episode, and what a reader knows of the room by now."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from envs.alfworld.names import CHANGES
from envs.text_env import NOTHING_HAPPENS, NamedObject

_TASK = "Your task is to: "
_FORMS = tuple(
    re.compile(form)
    for form in (
        r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"put (?P<two>two) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"find (?P<two>two) (?P<thing>\w+) and put them (?:in|on) (?P<place>\w+)\.",
        r"put (?:a|some) (?P<state>clean|hot|cool) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"(?P<verb>clean|heat|cool) (?:a|some) (?P<thing>\w+) and put it "
        r"(?:in|on) (?P<place>\w+)\.",
        r"look at (?P<thing>\w+) under the (?P<lamp>\w+)\.",
        r"examine the (?P<thing>\w+) with the (?P<lamp>\w+)\.",
    )
)
"""The task sentences: two for each family. A kind of thing or of place is one word."""
_VERB_OF_STATE = {change.state: verb for verb, change in CHANGES.items()}

# What the game answers, one pattern for each kind of answer. `\w+ \d+` is a name: "mug 2".
# A name in a list: "a mug 2, and a pen 1".
_NAME = re.compile(r"\ba (\w+ \d+)")
# The places of the room, in the first text only.
_ROOM = re.compile(r"Looking quickly around you, you see (.+)\.$", re.MULTILINE)
_ARRIVED = re.compile(r"You arrive at (\w+ \d+)\.")
_OPENED = re.compile(r"You open the (\w+ \d+)\.")
# "On the shelf 1, you see a mug 2." or "The drawer 2 is open. In it, you see nothing."
_LISTED = re.compile(r"(?:On the|The) (\w+ \d+)(?: is open\. In it)?, you see (.+)\.$")
_SHUT = re.compile(r"You close the (\w+ \d+)\.$|The (\w+ \d+) is closed\.$")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.$")
_MOVED = re.compile(r"You move the (\w+ \d+) to the (\w+ \d+)\.$")
_CHANGED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the \w+ \d+\.$")

_GO = re.compile(r"go to (\w+ \d+)")
_TAKE = re.compile(r"take (\w+ \d+) from \w+ \d+")
_MOVE = re.compile(r"move (\w+ \d+) to (\w+ \d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """The request of a task, in kinds of things and places ("mug", "sidetable")."""

    thing: str
    """The kind of thing to bring somewhere."""
    place: str
    """The kind of place to put it; "" if it must be held under a lamp."""
    lamp: str
    """The kind of lamp to hold it under; "" if it must be put somewhere."""
    verb: str
    """The verb of `CHANGES` to do to the thing first; "" if none."""
    two: bool
    """Whether two such things are wanted."""


def read_errand(text: str) -> Errand:
    """The task in the first text of an episode.

    Raises:
        ValueError: the task sentence has none of the known forms.
    """
    sentence = text.rpartition(_TASK)[2]
    for form in _FORMS:
        match = form.fullmatch(sentence)
        if match is None:
            continue
        parts = match.groupdict()
        verb = parts.get("verb") or _VERB_OF_STATE.get(parts.get("state", ""), "")
        return Errand(
            thing=parts["thing"],
            place=parts.get("place", ""),
            lamp=parts.get("lamp", ""),
            verb=verb,
            two="two" in parts,
        )
    raise ValueError(
        f"the searcher cannot read the task {sentence!r}: it has none of the known forms of "
        "ALFWorld's six families; set env.options.expert_type: handcoded"
    )


def kind_of(name: str) -> str:
    """The kind of a thing or place, by its name: "mug" for "mug 2"."""
    return name.rpartition(" ")[0]


def places_in(text: str) -> tuple[str, ...]:
    """The places of the room, in the order of an episode's first text; empty if it lists none."""
    room = _ROOM.search(text)
    return tuple(_NAME.findall(room[1])) if room else ()


def read_object(command: str, texts: Sequence[str]) -> NamedObject | None:
    """The furniture of a "go to", or the thing of a "take"; None for any other command.

    Furniture is known if the first text lists it, and a thing if some text has named it.

    Args:
        command: of any player.
        texts: of the episode so far, at least the first one.
    """
    command = command.strip()
    if gone := _GO.fullmatch(command):
        places = places_in(texts[0])
        kind = kind_of(gone[1])
        # A room has several drawers, and never a second fridge: no policy has read of one.
        is_one_of_several = sum(kind_of(place) == kind for place in places) > 1
        return NamedObject(
            name=gone[1],
            is_furniture=True,
            is_known=gone[1] in places,
            other_name=_free_name(kind, texts) if is_one_of_several else "",
        )
    if taken := _TAKE.fullmatch(command):
        return NamedObject(
            name=taken[1],
            is_furniture=False,
            is_known=_is_named(taken[1], texts),
            other_name=_free_name(kind_of(taken[1]), texts),
        )
    return None


def _free_name(kind: str, texts: Sequence[str]) -> str:
    """The first name of a kind, by number, that no text has."""
    return next(name for n in count(1) if not _is_named(name := f"{kind} {n}", texts))


def _is_named(name: str, texts: Sequence[str]) -> bool:
    # The boundary keeps "mug 1" apart from "mug 12".
    pattern = re.compile(rf"\b{name}\b")
    return any(pattern.search(text) for text in texts)


class Notes:
    """Everything that a reader of the texts knows by now. Names are the texts' ("mug 2")."""

    def __init__(self, text: str) -> None:
        """Begin with the first text of an episode.

        Raises:
            ValueError: the text lists no places.
        """
        self.places: tuple[str, ...] = places_in(text)
        if not self.places:
            raise ValueError(f"the searcher finds no list of places in the first text: {text!r}")
        """All places, in the order of the first text."""
        self.here: set[str] = set()
        """The places that can be used without going anywhere."""
        self.contents: dict[str, list[str]] = {}
        """The things in each place that was looked into, in the order of looking."""
        self.shut: set[str] = set()
        """The places that are known to be closed."""
        self.held: str | None = None
        """The thing in hand."""
        self.origin = ""
        """The place from which the thing in hand was taken."""
        self.changed: dict[str, set[str]] = {verb: set() for verb in CHANGES}
        """By verb, the things to which it has been done, as far as it still holds."""
        self.refused: set[tuple[str, str]] = set()
        """Pairs of a thing and a kind of place that did not take it."""

    def read(self, command: str, text: str) -> None:
        """Note what follows from the answer `text` to `command`, whoever sent the command."""
        if text == NOTHING_HAPPENS:
            self._read_refusal(command)
            return
        # "You arrive at drawer 2. The drawer 2 is closed.", "You open the drawer 2. The drawer 2
        # is open. In it, you see a mug 2.": the first sentence says what was done, and the second
        # is read below like the answer to `examine drawer 2`.
        if arrived := _ARRIVED.match(text):
            self.here = {arrived[1]}
        elif opened := _OPENED.match(text):
            self.shut.discard(opened[1])
        if listed := _LISTED.search(text):
            # Whatever shows its contents is here: `examine` reaches places that were not gone to.
            self.here.add(listed[1])
            self.contents[listed[1]] = _NAME.findall(listed[2])
        elif shut := _SHUT.search(text):
            # The contents seen before stay in the notes: a lamp in a closed drawer can be used.
            place = shut[1] or shut[2]
            self.here.add(place)
            self.shut.add(place)
        elif taken := _TAKEN.match(text):
            self._take(taken[1], taken[2])
        elif moved := _MOVED.match(text):
            self.held = None
            self.contents[moved[2]] = [*self.contents.get(moved[2], ()), moved[1]]
        elif changed := _CHANGED.match(text):
            self._change(changed[1], changed[2])

    def _take(self, thing: str, place: str) -> None:
        self.held, self.origin = thing, place
        inside = self.contents.get(place, ())
        self.contents[place] = [other for other in inside if other != thing]

    def _change(self, verb: str, thing: str) -> None:
        if verb != "clean":
            # A thing that is heated is no longer cool, and the other way round.
            self.changed["heat"].discard(thing)
            self.changed["cool"].discard(thing)
        self.changed[verb].add(thing)

    def _read_refusal(self, command: str) -> None:
        """Note the meaning of "Nothing happens." after `command`, in the two cases that have one.

        - `go to shelf 1`: shelf 1 is here already, since it shares its location with another place.
        - `move pen 1 to fridge 1`, with the pen in hand and the fridge open: fridges take no pens.
        """
        if (gone := _GO.fullmatch(command)) and gone[1] in self.places:
            self.here.add(gone[1])
            return
        moved = _MOVE.fullmatch(command)
        if moved and moved[1] == self.held and self.is_open(moved[2]):
            self.refused.add((moved[1], kind_of(moved[2])))

    def is_open(self, place: str) -> bool:
        """Whether `place` is here with its contents in plain sight."""
        return place in self.here and place in self.contents and place not in self.shut

    def seen(self, kind: str) -> list[tuple[str, str]]:
        """The known things of a kind, each with its place: first those here, then as seen."""
        pairs = []
        for place, things in self.contents.items():
            pairs += [(thing, place) for thing in things if kind_of(thing) == kind]
        return sorted(pairs, key=lambda pair: pair[1] not in self.here)
