"""Sequences that begin alike, laid out so that what they share stands there once.

The episodes of a group begin with the same prompt, and go on alike until their actions differ. A
causal model computes the same for equal beginnings, so a token needs to go through it once for all
the sequences that it begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

Tokens = tuple[int, ...]
Span = tuple[int, int]
"""Positions of a pack: from the first one up to, and without, the second."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Positions that lie one after the other in a pack: what one sequence adds to those before it.

    `before` are the spans of the pack, in the sequence's order, that lead to the branch: it attends
    to them.
    """

    begin: int
    end: int
    before: tuple[Span, ...] = ()

    @property
    def path(self) -> tuple[Span, ...]:
        """All of the sequence up to the branch's end."""
        return (*self.before, (self.begin, self.end))

    @property
    def depth(self) -> int:
        """How many tokens of the sequence come before the branch."""
        return sum(end - begin for begin, end in self.before)


@dataclass(frozen=True, kw_only=True)
class PrefixTree:
    """A pack's branches, which follow one another from position 0 on, and where each sequence's
    tokens stand in it.
    """

    branches: tuple[Branch, ...]
    paths: tuple[tuple[Span, ...], ...]

    @classmethod
    def of(cls, sequences: Sequence[Tokens], *, share: bool = True) -> Self:
        """Lay out `sequences`, none of them empty; not to `share` puts them one after the other as
        they are.
        """
        branches: list[Branch] = []
        paths: list[tuple[Span, ...]] = [()] * len(sequences)
        previous: Tokens = ()
        path: tuple[Span, ...] = ()
        size = 0
        # In lexicographic order, nothing has more in common with a sequence than the one before it.
        for i in (
            sorted(range(len(sequences)), key=lambda i: sequences[i])
            if share
            else range(len(sequences))
        ):
            sequence = sequences[i]
            common = shared_length(previous, sequence) if share else 0
            path = _first(path, common)
            if common < len(sequence):
                branches.append(Branch(begin=size, end=size + len(sequence) - common, before=path))
                path, size = branches[-1].path, branches[-1].end
            previous, paths[i] = sequence, path
        return cls(branches=tuple(branches), paths=tuple(paths))

    @property
    def size(self) -> int:
        """Positions of the pack."""
        return self.branches[-1].end if self.branches else 0

    def positions(self, sequence: int) -> list[int]:
        """Where each token of a sequence stands."""
        return [position for begin, end in self.paths[sequence] for position in range(begin, end)]


def shared_length(one: Tokens, other: Tokens) -> int:
    """How many tokens two sequences begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _first(path: tuple[Span, ...], length: int) -> tuple[Span, ...]:
    """The first `length` positions of a path."""
    kept: list[Span] = []
    for begin, end in path:
        if not length:
            break
        kept.append((begin, min(end, begin + length)))
        length -= kept[-1][1] - begin
    return tuple(kept)
