"""Prefix sharing: sequences that begin alike, laid out with each common beginning only once.

The episodes of a group begin with the same prompt and stay equal until their actions differ. A
causal model computes the same for equal beginnings. So a token goes through it once for all the
sequences that begin with it.

The layout is a pack: a row of positions, cut into branches. `agent_rl.learner.batch` draws an
example with all its tensors. Its inputs, and what `PrefixTree.of` makes of them:

    sequence 0    7 8 4 2 9     branch [0, 5)   before ()          path [0, 5)
    sequence 1    7 8 4 3 9     branch [5, 7)   before [0, 3)      path [0, 3) [5, 7)

Sequence 0 comes first in lexicographic order and makes a branch of all its tokens. Sequence 1 has
three tokens in common with it, so its branch adds the other two, and attends to [0, 3) as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

Tokens = tuple[int, ...]
Span = tuple[int, int]
"""Positions of a pack: from the first number up to, and without, the second."""


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Consecutive positions of a pack: the tokens that one sequence adds to earlier branches."""

    begin: int
    """The first position."""
    end: int
    """The position after the last one."""
    before: tuple[Span, ...] = ()
    """The spans that lead to the branch, in the sequence's order; the branch attends to them."""

    @property
    def path(self) -> tuple[Span, ...]:
        """The spans of the sequence from its beginning up to the branch's end."""
        return (*self.before, (self.begin, self.end))

    @property
    def depth(self) -> int:
        """The number of the sequence's tokens before the branch."""
        return sum(end - begin for begin, end in self.before)


@dataclass(frozen=True, kw_only=True)
class PrefixTree:
    """The layout of a pack: its branches, and the positions of each sequence."""

    branches: tuple[Branch, ...]
    """The branches, one after the other from position 0."""
    paths: tuple[tuple[Span, ...], ...]
    """For each sequence the spans that hold its tokens."""

    @classmethod
    def of(cls, sequences: Sequence[Tokens], *, share: bool = True) -> Self:
        """Lay out sequences.

        Args:
            sequences: none of them empty.
            share: if False, the sequences follow one another in their order and share nothing.
        """
        branches: list[Branch] = []
        paths: list[tuple[Span, ...]] = [()] * len(sequences)
        previous: Tokens = ()
        path: tuple[Span, ...] = ()
        size = 0
        # Why sort: in lexicographic order no earlier sequence has more in common with a sequence
        # than its neighbour. One comparison for each sequence is enough to find all sharing.
        order = list(range(len(sequences)))
        if share:
            order.sort(key=lambda i: sequences[i])
        for i in order:
            sequence = sequences[i]
            common = shared_length(previous, sequence) if share else 0
            # The common tokens are the first ones on the neighbour's path. They may end within a
            # span: the neighbour's branch stays whole, and this path uses the first part of it.
            path = _first(path, common)
            if common < len(sequence):
                branches.append(Branch(begin=size, end=size + len(sequence) - common, before=path))
                path, size = branches[-1].path, branches[-1].end
            # Otherwise the neighbour is the same sequence: no branch is added. (It cannot be a
            # longer one, as the shorter of two such sequences is sorted first.)
            previous, paths[i] = sequence, path
        return cls(branches=tuple(branches), paths=tuple(paths))

    @property
    def size(self) -> int:
        """The number of positions in the pack."""
        return self.branches[-1].end if self.branches else 0

    def positions(self, sequence: int) -> list[int]:
        """Return the position of each token of a sequence."""
        return [position for begin, end in self.paths[sequence] for position in range(begin, end)]


def shared_length(first: Tokens, second: Tokens) -> int:
    """Return the number of tokens that two sequences have in common at their beginnings."""
    # Bisection: comparing slices of tuples is much faster than a loop over tokens.
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _first(path: tuple[Span, ...], length: int) -> tuple[Span, ...]:
    """Return the spans of a path's first `length` positions."""
    kept: list[Span] = []
    for begin, end in path:
        if not length:
            break
        kept.append((begin, min(end, begin + length)))
        length -= kept[-1][1] - begin
    return tuple(kept)
