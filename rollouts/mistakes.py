"""Wrong commands to mix into an expert's episodes, so that SFT learns to recover from them."""

import random
import re
from collections.abc import Collection, Sequence

_NAME = re.compile(r"[a-z]+ \d+")
"""A thing's name in a command, such as "book 2"."""
_ADMISSIBLE = 0.5
"""The share of new mistakes that the environment accepts."""
_REPEATED = 0.5
"""The share of refused mistakes that are made once more."""
_DRAWS = 20
"""Tries to draw a command that is wrong."""


class Mistakes:
    """The wrong commands of one episode.

    The environment accepts half of the new ones and refuses the others. A refused one is repeated
    half of the time, as small models do when nothing happens. The expert's next command then shows
    the way out.
    """

    def __init__(self, share: float, *, seed: int) -> None:
        """Prepare an episode's mistakes.

        Args:
            share: the probability of a new mistake in a turn.
            seed: makes the draws repeatable.
        """
        self._share, self._rng = share, random.Random(seed)
        self._offered: set[str] = set()
        """All commands that were right or admissible in some turn so far."""
        self._refused: str | None = None
        """The mistake of the last turn, if the environment refused it."""

    def next(self, command: str, admissible: Sequence[str] | None) -> str | None:
        """Return a wrong command to execute, or None to execute the expert's `command`."""
        self._offered |= {command, *(admissible or ())}
        repeated = self._refused if self._rng.random() < _REPEATED else None
        self._refused = None
        # It may have become right since: then it is no mistake any more.
        if repeated is not None and repeated not in (command, *(admissible or ())):
            self._refused = repeated
            return repeated
        if self._rng.random() >= self._share:
            return None
        others = [offer for offer in admissible or () if offer != command]
        if others and self._rng.random() < _ADMISSIBLE:
            return self._rng.choice(others)
        self._refused = mixed_up(self._offered, {command, *others}, self._rng)
        return self._refused


def mixed_up(offered: Collection[str], allowed: Collection[str], rng: random.Random) -> str:
    """Return a command that is not `allowed`: one offered earlier, often with another name in it.

    For example, it may be out of place: "go to desk 1" at the desk. Or it may name the wrong thing:
    "take book 1 from bed 1" if the book is elsewhere.
    """
    names = sorted(set(_NAME.findall("\n".join(offered))))
    for _ in range(_DRAWS if names else 0):
        command = rng.choice(sorted(offered))
        places = list(_NAME.finditer(command))
        if places:
            place = rng.choice(places)
            command = command[: place.start()] + rng.choice(names) + command[place.end() :]
        if command not in allowed:
            return command
    # Without names there is nothing to mix up, so a number makes the command wrong: "look 1".
    return f"{min(offered)} 1"
