"""What ALFWorld's texts say: the task, and what a reader can know of the room from what was done
and answered.
"""

import re
from dataclasses import dataclass

from envs.alfworld.names import CHANGES

NOTHING_HAPPENS = "Nothing happens."

_TASK = "Your task is to: "
_FORMS = tuple(
    re.compile(form)
    for form in (
        r"put (?:a|some) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"put (?P<two>two) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"find (?P<two>two) (?P<thing>\w+) and put them (?:in|on) (?P<place>\w+)\.",
        r"put (?:a|some) (?P<state>clean|hot|cool) (?P<thing>\w+) (?:in|on) (?P<place>\w+)\.",
        r"(?P<verb>clean|heat|cool) (?:a|some) (?P<thing>\w+) and put it (?:in|on) (?P<place>\w+)\.",
        r"look at (?P<thing>\w+) under the (?P<lamp>\w+)\.",
        r"examine the (?P<thing>\w+) with the (?P<lamp>\w+)\.",
    )
)
"""How tasks are worded: two ways for each family. A kind of thing or of place is one word."""
_VERB_OF_STATE = {change.state: verb for verb, change in CHANGES.items()}

_ROOM = re.compile(r"Looking quickly around you, you see (.+)\.$", re.MULTILINE)
_NAME = re.compile(r"\ba (\w+ \d+)")
_ARRIVED = re.compile(r"You arrive at (\w+ \d+)\.")
_OPENED = re.compile(r"You open the (\w+ \d+)\.")
_SHUT = re.compile(r"You close the (\w+ \d+)\.$|The (\w+ \d+) is closed\.$")
_LISTED = re.compile(r"(?:On the|The) (\w+ \d+)(?: is open\. In it)?, you see (.+)\.$")
_TAKEN = re.compile(r"You pick up the (\w+ \d+) from the (\w+ \d+)\.$")
_MOVED = re.compile(r"You move the (\w+ \d+) to the (\w+ \d+)\.$")
_CHANGED = re.compile(r"You (clean|heat|cool) the (\w+ \d+) using the \w+ \d+\.$")
_GO = re.compile(r"go to (\w+ \d+)")
_MOVE = re.compile(r"move (\w+ \d+) to (\w+ \d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """What a task asks for, in kinds ("mug", "sidetable"): a `thing`, to be put at a `place` or
    held under a `lamp`.

    What does not apply is "". `verb`: what is to be done to the thing first: clean, heat or cool.
    `two`: two of them.
    """

    thing: str
    place: str
    lamp: str
    verb: str
    two: bool


def read_errand(text: str) -> Errand:
    """The task in the first text of an episode.

    Raises:
        ValueError: it is worded in none of the ways that are known.
    """
    sentence = text.rpartition(_TASK)[2]
    for form in _FORMS:
        match = form.fullmatch(sentence)
        if match is not None:
            said = match.groupdict()
            return Errand(
                thing=said["thing"],
                place=said.get("place", ""),
                lamp=said.get("lamp", ""),
                verb=said["verb"]
                if "verb" in said
                else _VERB_OF_STATE.get(said.get("state", ""), ""),
                two="two" in said,
            )
    raise ValueError(
        f"the searcher cannot read the task {sentence!r}: it is worded in none of the ways of ALFWorld's six families; "
        "set env.options.expert_type: handcoded"
    )


def kind_of(name: str) -> str:
    """The kind of what is called `name`: that of "mug 2" is "mug"."""
    return name.rpartition(" ")[0]


class Notes:
    """What is known so far. Things and places go by their names ("mug 2").

    `places`: all there are, in the order of the first text. `here`: those that can be used without
    going there. `contents`: what was seen in each that was looked into, in the order in which that
    happened. `shut`: those that are known to be closed. `held`: the thing in hand; it was taken
    from `origin`. `changed`: the things that are clean, hot or cool by what was done to them, by
    verb. `refused`: a thing in hand and a kind of place that did not take it.
    """

    def __init__(self, text: str) -> None:
        """Begin with the first text of an episode (ValueError where it lists no places)."""
        room = _ROOM.search(text)
        if room is None:
            raise ValueError(f"the searcher finds no list of places in the first text: {text!r}")
        self.places: tuple[str, ...] = tuple(_NAME.findall(room[1]))
        self.here: set[str] = set()
        self.contents: dict[str, list[str]] = {}
        self.shut: set[str] = set()
        self.held: str | None = None
        self.origin = ""
        self.changed: dict[str, set[str]] = {verb: set() for verb in CHANGES}
        self.refused: set[tuple[str, str]] = set()

    def read(self, command: str, text: str) -> None:
        """Take in what `command` was answered with; whose command it was does not matter."""
        if text == NOTHING_HAPPENS:
            self._read_refusal(command)
            return
        if arrived := _ARRIVED.match(text):
            self.here = {arrived[1]}
        elif opened := _OPENED.match(text):
            self.shut.discard(opened[1])
        if listed := _LISTED.search(text):
            self.here.add(listed[1])
            self.contents[listed[1]] = _NAME.findall(listed[2])
        elif shut := _SHUT.search(text):
            place = shut[1] or shut[2]
            self.here.add(place)
            self.shut.add(place)
        elif taken := _TAKEN.match(text):
            self.held, self.origin = taken.groups()
            self.contents[self.origin] = [
                other for other in self.contents.get(self.origin, ()) if other != self.held
            ]
        elif moved := _MOVED.match(text):
            self.held = None
            self.contents[moved[2]] = [*self.contents.get(moved[2], ()), moved[1]]
        elif changed := _CHANGED.match(text):
            verb, thing = changed.groups()
            if verb != "clean":
                self.changed["heat"].discard(thing)
                self.changed["cool"].discard(thing)
            self.changed[verb].add(thing)

    def _read_refusal(self, command: str) -> None:
        """Nothing happens where one goes to a place that is here already, or puts a thing where
        such are not put.
        """
        if (gone := _GO.fullmatch(command)) and gone[1] in self.places:
            self.here.add(gone[1])
        elif (
            (moved := _MOVE.fullmatch(command)) and moved[1] == self.held and self.is_open(moved[2])
        ):
            self.refused.add((moved[1], kind_of(moved[2])))

    def is_open(self, place: str) -> bool:
        """Whether `place` is here, and what is there in plain sight."""
        return place in self.here and place in self.contents and place not in self.shut

    def seen(self, kind: str) -> list[tuple[str, str]]:
        """The things of this kind that are known, each with its place: first those that are here,
        then as seen.
        """
        found = [
            (thing, place)
            for place, things in self.contents.items()
            for thing in things
            if kind_of(thing) == kind
        ]
        return sorted(found, key=lambda pair: pair[1] not in self.here)
