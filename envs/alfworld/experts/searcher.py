"""An expert that only reads: it looks into the usual places first, and notes what it sees.

It knows what a policy knows, the texts and the commands, and nothing else: no admissible commands,
no state, no walkthrough. A policy can therefore learn its choices from the texts. At every turn
it decides from its notes alone, and keeps no plan. A wrong command that somebody mixes
in is one more event.

- With an unwanted thing in hand, it puts it back where it came from.
- With a wanted thing in hand, it goes to the lamp and uses that; or it cleans, heats or cools the
  thing, if the task asks for that, and puts it into the first place of the asked kind.
- With nothing in hand, it fetches a wanted thing that it has seen: one that is here, or else the
  one seen first.
- Otherwise it looks into the next place: by the kinds in `PLACES` for such a thing, and within a
  kind in the order of the first text.

To get at a place it goes there, opens it if it is closed, and examines it if its contents are not
known. Some places are so near each other that "go to" is answered with "Nothing happens."; then the
second is here already.
"""

from collections.abc import Iterable

from envs.alfworld.engines.engine import Frame
from envs.alfworld.experts.notes import Errand, Notes, kind_of, read_errand
from envs.alfworld.experts.places import PLACES
from envs.alfworld.names import CHANGES


class Searcher:
    """Advises the next command of one episode, from its texts."""

    def __init__(self) -> None:
        self._errand: Errand | None = None

    def start(self, frame: Frame) -> str | None:
        """The first advice, from the text after the reset.

        Raises:
            ValueError: the text is not one of ALFWorld's; the message quotes it.
        """
        self._errand = read_errand(frame.text)
        self._notes = Notes(frame.text)
        return self._next(self._errand)

    def advise(self, frame: Frame, command: str) -> str | None:
        """The next advice, after `command` has led to `frame`; None if there is none.

        It does not matter who chose `command`.
        """
        assert self._errand is not None, "start comes first"
        self._notes.read(command.strip(), frame.text)
        advice = self._next(self._errand)
        # If the notes still ask for the command that was just sent, the game has refused it, and
        # would refuse it again.
        return None if advice == command.strip() else advice

    def _next(self, errand: Errand) -> str | None:
        notes, held = self._notes, self._notes.held
        if held is None:
            return self._fetch(errand)
        if kind_of(held) != errand.thing:
            places = [notes.origin, *self._usual_places(kind_of(held))]
            return self._put(
                held, (place for place in places if (held, kind_of(place)) not in notes.refused)
            )
        if errand.lamp:
            return self._light(errand.lamp)
        if errand.verb and held not in notes.changed[errand.verb]:
            return self._change(held, errand.verb)
        return self._put(held, self._destinations(errand))

    def _fetch(self, errand: Errand) -> str | None:
        """Take a thing that was seen, unless it is in its right place; else look for one."""
        # Two things must end in the same place, so the first stays there and the second is fetched
        # from anywhere else, even from another place of the right kind.
        # One thing that is in a right place is either the end of the task, or must still be
        # changed: "put a clean mug in drawer" takes the mug out of the drawer.
        done = self._destinations(errand)[:1] if errand.two else []
        for thing, place in self._notes.seen(errand.thing):
            if place not in done:
                return self._way_into(place) or f"take {thing} from {place}"
        return self._search(errand.thing, leave_out="" if errand.verb else errand.place)

    def _light(self, lamp: str) -> str | None:
        """Use the lamp; else look for one."""
        for thing, place in self._notes.seen(lamp):
            # No need to open: a lamp works in a closed place too.
            return self._way_to(place) or f"use {thing}"
        return self._search(lamp)

    def _change(self, held: str, verb: str) -> str | None:
        """Clean, heat or cool the thing in hand; the tool need not be open."""
        for place in self._of_kind(CHANGES[verb].tool.lower()):
            return self._way_to(place) or f"{verb} {held} with {place}"
        return None

    def _put(self, held: str, places: Iterable[str]) -> str | None:
        """Put the thing in hand into the first of these places."""
        for place in places:
            return self._way_into(place) or f"move {held} to {place}"
        return None

    def _search(self, kind: str, leave_out: str = "") -> str | None:
        """Look into the next place for a thing of this kind.

        Places of the kind `leave_out` are left out: a thing that is there need not be fetched.
        """
        for place in self._usual_places(kind):
            if place not in self._notes.contents and kind_of(place) != leave_out:
                return self._way_into(place)
        return None

    def _destinations(self, errand: Errand) -> list[str]:
        """The places of the asked kind, first the one with most of the wanted things already."""

        def missing(place: str) -> int:
            inside = self._notes.contents.get(place, ())
            return -sum(kind_of(thing) == errand.thing for thing in inside)

        return sorted(self._of_kind(errand.place), key=missing)

    def _usual_places(self, kind: str) -> list[str]:
        """All places, the likeliest for a thing of this kind first, those not in `PLACES` last."""
        rank = {place: number for number, place in enumerate(PLACES.get(kind, ()))}
        return sorted(self._notes.places, key=lambda place: rank.get(kind_of(place), len(rank)))

    def _of_kind(self, kind: str) -> list[str]:
        return [place for place in self._notes.places if kind_of(place) == kind]

    def _way_to(self, place: str) -> str | None:
        """The command that leads to `place`; None if it is here."""
        return None if place in self._notes.here else f"go to {place}"

    def _way_into(self, place: str) -> str | None:
        """The next command until `place` is here with its contents in plain sight; None if so."""
        if place not in self._notes.here:
            return f"go to {place}"
        if place in self._notes.shut:
            return f"open {place}"
        return None if place in self._notes.contents else f"examine {place}"
