"""Data augmentation: a game in which the things have permuted names.

A policy that has learned a room by heart is wrong about such a game, and one that reads is right.
The things of a kind exchange their numbers, 1 to 4. In every second permutation the kinds exchange
their names too ("mug" and "pencil"), also in the task, so things are not where they usually are.
Furniture, lamps and verbs keep their names. The game underneath stays the same.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import replace

from envs.alfworld.engines.engine import Frame
from envs.alfworld.experts.places import PLACES
from envs.alfworld.package import constants

_NUMBERS = ("1", "2", "3", "4")
"""Exchanged within a kind. Few rooms of the published games hold more than four of a kind."""


class PermutedNames:
    """A one-to-one map from the game's names to the names that the player reads."""

    def __init__(self, seed: str, kinds: Iterable[str], *, exchange_kinds: bool) -> None:
        """Draw the names from a generator that `seed` alone decides.

        Args:
            seed: any text; the environment takes the task's id.
            kinds: the kinds of things to permute, for example "mug".
            exchange_kinds: permute the kinds too, and not the numbers only.
        """
        rng = random.Random(seed)
        kinds = sorted(kinds)
        new_kinds = rng.sample(kinds, len(kinds)) if exchange_kinds else kinds
        self._new: dict[str, str] = {}
        for kind, new_kind in zip(kinds, new_kinds, strict=True):
            self._new[kind] = new_kind
            new_numbers = rng.sample(_NUMBERS, len(_NUMBERS))
            for number, new_number in zip(_NUMBERS, new_numbers, strict=True):
                self._new[f"{kind} {number}"] = f"{new_kind} {new_number}"
        self._old = {new: old for old, new in self._new.items()}
        # "mug 2" whole, and "mug" alone as in the task. `\b` leaves "mug" in "mugs" alone, and
        # "mug 12" keeps its number: the pattern matches "mug" only, since no boundary follows "1".
        self._name = re.compile(rf"\b(?:{'|'.join(kinds)})(?: [{''.join(_NUMBERS)}])?\b")

    def frame(self, frame: Frame) -> Frame:
        """A frame of the game in the player's names.

        It has no `facts`: the expert that needs them knows the game's own names only.
        """
        commands = [self.text(command) for command in frame.commands]
        return replace(frame, text=self.text(frame.text), commands=commands, facts=())

    def text(self, text: str) -> str:
        """A text of the game in the player's names."""
        return self._name.sub(lambda match: self._new[match[0]], text)

    def command(self, command: str) -> str:
        """A command of the player in the game's own names."""
        return self._name.sub(lambda match: self._old[match[0]], command)


def permuted_names(task_id: str, number: int) -> PermutedNames:
    """The names of a task; those with an odd number exchange kinds too.

    Args:
        task_id: the id of the permuted game, `.../trial_1~2`.
        number: which permutation of its game it is, from 1.
    """
    return PermutedNames(task_id, takable_kinds(), exchange_kinds=number % 2 == 1)


def takable_kinds() -> frozenset[str]:
    """The kinds of things that a player can carry in the training games, as the texts have them."""
    kinds: set[str] = set()
    for types in constants().VAL_RECEPTACLE_OBJECTS.values():
        kinds.update(kind.lower() for kind in types)
    return frozenset(kinds & PLACES.keys())
