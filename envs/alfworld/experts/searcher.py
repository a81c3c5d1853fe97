"""An expert that only reads: where it has looked, what it saw there, and where such things usually
are.

It knows what a policy knows, the texts and the commands that were sent, and nothing else: no list
of what may be done, no state, no walkthrough. So what it does can be learned from what comes before
it. At every turn it asks what the notes say, and not what it was up to: a wrong command that
somebody mixed in is one more thing that has happened.

- In hand and not wanted: put it back where it was taken from.
  - In hand and wanted: go to the lamp and use that; or clean, heat or cool it, if that is asked for
  and not done, and then put it where it belongs: into the first place of that kind in the first
  text.
  - Nothing in hand, and a wanted thing was seen: fetch it; one that is here before others, then the
  one seen first.
  - Else look into the next place: kind by kind as `PLACES` has them for such things, and then as
  the first text has them.

To get at a place is to go there, to open it where it is closed, and to examine it where it is not
known what it holds. Some places are so near to each other that "go to" is answered "Nothing
happens."; then the second is here already.
"""

from collections.abc import Sequence

from envs.alfworld.engines.engine import Frame
from envs.alfworld.experts.notes import Errand, Notes, kind_of, read_errand
from envs.alfworld.experts.places import PLACES
from envs.alfworld.names import CHANGES


class Searcher:
    """Says what to do next in one episode, from its texts."""

    def __init__(self) -> None:
        self._errand: Errand | None = None

    def start(self, frame: Frame) -> str | None:
        """The first advice, from the frame after the reset, of which only the text is looked at.

        Raises:
            ValueError: the text is not as ALFWorld's are; the message quotes it.
        """
        self._errand = read_errand(frame.text)
        self._notes = Notes(frame.text)
        return self._next(self._errand)

    def advise(self, frame: Frame, command: str) -> str | None:
        """The next advice, after `command`, whoever chose it, has led to `frame`; None where it
        knows no more.
        """
        assert self._errand is not None, "start comes first"
        self._notes.read(command.strip(), frame.text)
        advice = self._next(self._errand)
        # What has been sent and is still to be done was refused, and would be again.
        return None if advice == command.strip() else advice

    def _next(self, errand: Errand) -> str | None:
        notes, held = self._notes, self._notes.held
        if held is None:
            return self._fetch(errand)
        if kind_of(held) != errand.thing:
            places = [notes.origin, *self._usual_places(kind_of(held))]
            return self._put(
                held, [place for place in places if (held, kind_of(place)) not in notes.refused]
            )
        if errand.lamp:
            return self._light(errand.lamp)
        if errand.verb and held not in notes.changed[errand.verb]:
            return self._change(held, errand.verb)
        return self._put(held, self._destinations(errand))

    def _fetch(self, errand: Errand) -> str | None:
        """Take a thing that was seen, unless it is where it belongs; else look for one."""
        # What two places could share must come together in one. Where one thing is asked for, none
        # is there yet.
        there = self._destinations(errand)[:1] if errand.two else []
        for thing, place in self._notes.seen(errand.thing):
            if place not in there:
                return self._way_into(place) or f"take {thing} from {place}"
        return self._search(errand.thing, leave_out="" if errand.verb else errand.place)

    def _light(self, lamp: str) -> str | None:
        """Use the lamp, which works in a closed place, too; else look for one."""
        for thing, place in self._notes.seen(lamp):
            return self._way_to(place) or f"use {thing}"
        return self._search(lamp)

    def _change(self, held: str, verb: str) -> str | None:
        for place in self._of_kind(CHANGES[verb].tool.lower()):
            return self._way_to(place) or f"{verb} {held} with {place}"
        return None

    def _put(self, held: str, places: Sequence[str]) -> str | None:
        for place in places:
            return self._way_into(place) or f"move {held} to {place}"
        return None

    def _search(self, kind: str, leave_out: str = "") -> str | None:
        """Look into the next place for a thing of this kind; not into places of the kind
        `leave_out`.
        """
        for place in self._usual_places(kind):
            if place not in self._notes.contents and kind_of(place) != leave_out:
                return self._way_into(place)
        return None

    def _destinations(self, errand: Errand) -> list[str]:
        """Where the things belong: first where most of them are already, as far as is known."""

        def missing(place: str) -> int:
            return -sum(
                kind_of(thing) == errand.thing for thing in self._notes.contents.get(place, ())
            )

        return sorted(self._of_kind(errand.place), key=missing)

    def _usual_places(self, kind: str) -> list[str]:
        """All places, those first where a thing of this kind is likeliest to be."""
        rank = {place: number for number, place in enumerate(PLACES.get(kind, ()))}
        return sorted(self._notes.places, key=lambda place: rank.get(kind_of(place), len(rank)))

    def _of_kind(self, kind: str) -> list[str]:
        return [place for place in self._notes.places if kind_of(place) == kind]

    def _way_to(self, place: str) -> str | None:
        return None if place in self._notes.here else f"go to {place}"

    def _way_into(self, place: str) -> str | None:
        """The next step until `place` is here and what it holds in plain sight; None when it is."""
        if place not in self._notes.here:
            return f"go to {place}"
        if place in self._notes.shut:
            return f"open {place}"
        return None if place in self._notes.contents else f"examine {place}"
