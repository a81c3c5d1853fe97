"""Wrong commands, mixed into an expert's episode, for the supervised warm start to learn the way
out of.
"""

import random
import re
from collections.abc import Collection, Sequence

_NAME = re.compile(r"[a-z]+ \d+")
"""What commands call a thing: "book 2"."""
_ADMISSIBLE, _REPEATED = 0.5, 0.5
"""The share of new mistakes that the environment accepts, and of the others that are made once
more.
"""
_DRAWS = 20


class Mistakes:
    """The wrong commands of one episode: with probability `share` a new one, half of them refused
    by the environment.

    A refused one is repeated half of the time, as small models do when nothing happens: what
    follows shows the way out.
    """

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share, self._rng = share, rng
        self._offered: set[str] = set()
        self._refused: str | None = None

    def next(self, command: str, admissible: Sequence[str] | None) -> str | None:
        """What is done instead of the expert's `command`; None where that is done."""
        self._offered |= {command, *(admissible or ())}
        again = self._refused if self._rng.random() < _REPEATED else None
        self._refused = None
        if again is not None and again not in (command, *(admissible or ())):
            self._refused = again
            return again
        if self._rng.random() >= self._share:
            return None
        others = [other for other in admissible or () if other != command]
        if others and self._rng.random() < _ADMISSIBLE:
            return self._rng.choice(others)
        self._refused = mixed_up(self._offered, {command, *others}, self._rng)
        return self._refused


def mixed_up(offered: Collection[str], allowed: Collection[str], rng: random.Random) -> str:
    """A command that is not `allowed`: one of those offered so far, perhaps with another's name in
    place of its own.

    So it is out of place ("go to desk 1" at the desk) or of another thing ("take book 1 from bed
    1": no book there).
    """
    names = sorted({name for command in offered for name in _NAME.findall(command)})
    for _ in range(_DRAWS if names else 0):
        command = rng.choice(sorted(offered))
        found = list(_NAME.finditer(command))
        if found:
            place = rng.choice(found)
            command = command[: place.start()] + rng.choice(names) + command[place.end() :]
        if command not in allowed:
            return command
    return f"{min(offered)} 1"
