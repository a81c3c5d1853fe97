"""An episode's way through the room, read from its texts: for a drawing, not for a policy."""

from collections.abc import Sequence
from dataclasses import dataclass

from envs.alfworld.experts.notes import Notes


@dataclass(frozen=True, kw_only=True)
class RoomTurn:
    """What one command changed."""

    place: str
    """Where the agent is after it; "" at the start, in the middle of the room."""
    held: str
    """The thing in its hand after it; "" if there is none."""
    opened: str
    """The place that it opened; "" if none."""
    did: str
    """What it did to a thing, such as "took mug 1"; "" if nothing."""


@dataclass(frozen=True, kw_only=True)
class RoomStory:
    """The places of a room, and what each command of an episode changed."""

    places: tuple[str, ...]
    """All places, in the order of the first text."""
    turns: tuple[RoomTurn, ...]
    """One for each command."""


def read_room(texts: Sequence[str], commands: Sequence[str]) -> RoomStory | None:
    """Read an episode's texts.

    Args:
        texts: the first text, and the answer to each command.
        commands: the commands; one that the game never saw is "".

    Returns:
        None if the first text lists no places.
    """
    try:
        notes = Notes(texts[0])
    except (ValueError, IndexError):
        return None
    turns = []
    place = ""
    for command, answer in zip(commands, texts[1:], strict=True):
        here, held, shut = set(notes.here), notes.held or "", set(notes.shut)
        changed = {verb: set(things) for verb, things in notes.changed.items()}
        notes.read(command, answer)
        if len(notes.here) == 1 and notes.here != here:
            place = next(iter(notes.here))
        opened = sorted(shut - notes.shut)
        now = notes.held or ""
        did = ""
        if now != held:
            did = f"took {now}" if now else f"put {held}"
        for verb, things in notes.changed.items():
            for thing in sorted(things - changed[verb]):
                did = f"{verb}ed {thing}"
        turns.append(RoomTurn(place=place, held=now, opened="".join(opened[:1]), did=did))
    return RoomStory(places=notes.places, turns=tuple(turns))
