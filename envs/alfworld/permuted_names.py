"""Other names for the things of a game: what a policy knows by heart of a room is then wrong, what
it reads is right.

Things of a kind exchange their numbers, 1 to 4, and in every second renaming kinds exchange their
names ("mug" and "pencil"), in the task too: then things are not where such things usually are.
Furniture, lamps and verbs stay as they are, so the game is played as before.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import replace

from envs.alfworld.engines.engine import Frame
from envs.alfworld.experts.places import PLACES
from envs.alfworld.package import constants

_NUMBERS = (1, 2, 3, 4)
"""Exchanged within a kind; the official games have more than four of a kind in few rooms."""


class Renaming:
    """One renaming, drawn from `seed`: from the game's names to others and back, one to one."""

    def __init__(self, seed: str, kinds: Iterable[str], *, exchange_kinds: bool) -> None:
        rng = random.Random(seed)
        kinds = sorted(kinds)
        others = rng.sample(kinds, len(kinds)) if exchange_kinds else kinds
        numbers = [str(number) for number in _NUMBERS]
        self._forth: dict[str, str] = {}
        for kind, other in zip(kinds, others, strict=True):
            self._forth[kind] = other
            drawn = rng.sample(numbers, len(numbers))
            self._forth |= {
                f"{kind} {old}": f"{other} {new}" for old, new in zip(numbers, drawn, strict=True)
            }
        self._back = {new: old for old, new in self._forth.items()}
        self._name = re.compile(rf"\b(?:{'|'.join(kinds)})(?: [{''.join(numbers)}])?\b")

    def frame(self, frame: Frame) -> Frame:
        """What the game shows, in the other names; `facts` are left out, which have names of their
        own.
        """
        return replace(
            frame,
            text=self.text(frame.text),
            commands=[self.text(c) for c in frame.commands],
            facts=(),
        )

    def text(self, text: str) -> str:
        """A text of the game's in the other names."""
        return self._name.sub(lambda found: self._forth[found[0]], text)

    def command(self, command: str) -> str:
        """A command in the other names as the game knows it."""
        return self._name.sub(lambda found: self._back[found[0]], command)


def renaming_of(task_id: str, number: int) -> Renaming:
    """The renaming of the task of that id, its game's `number`-th from 1 on: those of odd numbers
    exchange kinds.
    """
    return Renaming(task_id, takable_kinds(), exchange_kinds=number % 2 == 1)


def takable_kinds() -> frozenset[str]:
    """The kinds of things that an agent can carry, as the texts spell them; those that the training
    games hold.
    """
    carried = constants().VAL_RECEPTACLE_OBJECTS.values()
    return frozenset(kind.lower() for kinds in carried for kind in kinds) & PLACES.keys()
