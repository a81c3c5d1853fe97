import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.learner.prefix_tree import Branch, PrefixTree, Tokens, shared_length

# With few different tokens, sequences often begin alike, contain one another, or are equal.
SEQUENCES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=8).map(tuple), min_size=1, max_size=10
)


def prefixes_of(sequence: Tokens) -> set[Tokens]:
    """All beginnings but the empty one."""
    return {sequence[: length + 1] for length in range(len(sequence))}


def pack_of(sequences: list[Tokens], tree: PrefixTree) -> list[int]:
    """The token at each position, all sequences written in; where two disagree, this fails."""
    pack: dict[int, int] = {}
    for i, sequence in enumerate(sequences):
        for position, token in zip(tree.positions(i), sequence, strict=True):
            assert pack.setdefault(position, token) == token
    assert sorted(pack) == list(range(tree.size)), "no position is left empty"
    return [pack[position] for position in range(tree.size)]


def test_one_sequence_is_one_branch() -> None:
    tree = PrefixTree.of([(5, 6, 7)])
    assert tree.branches == (Branch(begin=0, end=3),)
    assert tree.paths == (((0, 3),),)
    assert (tree.size, tree.positions(0)) == (3, [0, 1, 2])


def test_equal_sequences_are_laid_out_once() -> None:
    tree = PrefixTree.of([(5, 6), (5, 6), (5, 6)])
    assert tree.branches == (Branch(begin=0, end=2),)
    assert tree.paths == (((0, 2),),) * 3
    assert tree.size == 2


def test_sequences_with_nothing_in_common_are_in_lexicographic_order() -> None:
    tree = PrefixTree.of([(7, 1, 2), (5, 1)])
    assert tree.branches == (Branch(begin=0, end=2), Branch(begin=2, end=5))
    assert [tree.positions(i) for i in range(2)] == [[2, 3, 4], [0, 1]]


@pytest.mark.parametrize("whole", [0, 1])
def test_a_sequence_that_another_one_begins_with_adds_no_branch(whole: int) -> None:
    sequences: list[Tokens] = [(1, 2), (1, 2)]
    sequences[whole] = (1, 2, 3, 4, 5)
    tree = PrefixTree.of(sequences)
    assert tree.branches == (Branch(begin=0, end=2), Branch(begin=2, end=5, before=((0, 2),)))
    assert tree.paths[whole] == ((0, 2), (2, 5))
    assert tree.paths[1 - whole] == ((0, 2),)
    assert tree.positions(whole) == [0, 1, 2, 3, 4]
    assert tree.size == 5


def test_three_that_part_at_different_depths() -> None:
    # Laid out as 1 2 3 4, then 5 6 behind 1 2 3, then 7 behind 1.
    tree = PrefixTree.of([(1, 7), (1, 2, 3, 5, 6), (1, 2, 3, 4)])
    assert tree.branches == (
        Branch(begin=0, end=4),
        Branch(begin=4, end=6, before=((0, 3),)),
        Branch(begin=6, end=7, before=((0, 1),)),
    )
    assert [branch.depth for branch in tree.branches] == [0, 3, 1]
    assert tree.branches[1].path == ((0, 3), (4, 6))
    assert [tree.positions(i) for i in range(3)] == [[0, 6], [0, 1, 2, 4, 5], [0, 1, 2, 3]]
    assert tree.size == 7


def test_a_branch_of_a_branch_has_both_before_it() -> None:
    # 1 2 3, then 4 5 6 behind 1, then 7 behind 1 4 5, and 8 behind 1 4 5 6: the whole of the second
    # branch.
    tree = PrefixTree.of([(1, 2, 3), (1, 4, 5, 6), (1, 4, 5, 7), (1, 4, 5, 6, 8)])
    assert tree.branches == (
        Branch(begin=0, end=3),
        Branch(begin=3, end=6, before=((0, 1),)),
        Branch(begin=6, end=7, before=((0, 1), (3, 6))),
        Branch(begin=7, end=8, before=((0, 1), (3, 5))),
    )
    assert [branch.depth for branch in tree.branches] == [0, 1, 4, 3]
    assert tree.paths == (
        ((0, 3),),
        ((0, 1), (3, 6)),
        ((0, 1), (3, 5), (7, 8)),
        ((0, 1), (3, 6), (6, 7)),
    )
    assert [tree.positions(i) for i in range(4)] == [
        [0, 1, 2],
        [0, 3, 4, 5],
        [0, 3, 4, 7],
        [0, 3, 4, 5, 6],
    ]


def test_not_to_share_leaves_the_sequences_as_they_are() -> None:
    tree = PrefixTree.of([(1, 7), (1, 2, 3), (1, 7)], share=False)
    assert tree.branches == (Branch(begin=0, end=2), Branch(begin=2, end=5), Branch(begin=5, end=7))
    assert tree.paths == (((0, 2),), ((2, 5),), ((5, 7),))
    assert [tree.positions(i) for i in range(3)] == [[0, 1], [2, 3, 4], [5, 6]]
    assert tree.size == 7


@pytest.mark.parametrize("share", [True, False])
def test_no_sequences_are_no_pack(share: bool) -> None:
    tree = PrefixTree.of([], share=share)
    assert (tree.branches, tree.paths, tree.size) == ((), (), 0)


@given(sequences=SEQUENCES, share=st.booleans())
@settings(deadline=None)
def test_each_sequence_is_read_back_from_its_positions(
    sequences: list[Tokens], share: bool
) -> None:
    tree = PrefixTree.of(sequences, share=share)
    pack = pack_of(sequences, tree)
    assert [
        tuple(pack[position] for position in tree.positions(i)) for i in range(len(sequences))
    ] == sequences
    distinct = set().union(*map(prefixes_of, sequences))
    assert tree.size == (len(distinct) if share else sum(map(len, sequences)))


@given(sequences=SEQUENCES, share=st.booleans())
@settings(deadline=None)
def test_branches_follow_one_another_and_know_their_paths(
    sequences: list[Tokens], share: bool
) -> None:
    tree = PrefixTree.of(sequences, share=share)
    pack = pack_of(sequences, tree)
    assert tree.branches[0].begin == 0
    assert tree.branches[-1].end == tree.size
    assert all(one.end == following.begin for one, following in pairwise(tree.branches))
    known = set().union(*map(prefixes_of, sequences))
    for branch in tree.branches:
        assert branch.begin < branch.end
        before = [position for begin, end in branch.before for position in range(begin, end)]
        positions = [position for begin, end in branch.path for position in range(begin, end)]
        assert len(before) == branch.depth
        assert positions == [*before, *range(branch.begin, branch.end)]
        assert all(one < following for one, following in pairwise(positions)), (
            "what leads to it lies before it"
        )
        assert tuple(pack[position] for position in positions) in known
    # A position's token has the depth in its branch that it has in every sequence it belongs to.
    depths = {
        position: branch.depth + position - branch.begin
        for branch in tree.branches
        for position in range(branch.begin, branch.end)
    }
    for i in range(len(sequences)):
        assert [depths[position] for position in tree.positions(i)] == list(
            range(len(sequences[i]))
        )


@given(sequences=SEQUENCES, seed=st.integers(0, 100))
@settings(deadline=None)
def test_the_layout_does_not_depend_on_the_order_of_the_sequences(
    sequences: list[Tokens], seed: int
) -> None:
    order = list(range(len(sequences)))
    random.Random(seed).shuffle(order)
    tree, shuffled = PrefixTree.of(sequences), PrefixTree.of([sequences[i] for i in order])
    assert shuffled.branches == tree.branches
    assert [shuffled.positions(k) for k in range(len(order))] == [tree.positions(i) for i in order]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((), (), 0),
        ((), (1, 2), 0),
        ((1,), (2,), 0),
        ((1,), (1,), 1),
        ((1, 2, 3), (1, 2, 3), 3),
        ((1, 2, 3), (1, 2), 2),
        ((1, 2, 3), (1, 9, 3), 1),
        ((9, 2, 3), (1, 2, 3), 0),
        ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 7), 5),
    ],
)
def test_the_shared_length_by_hand(one: Tokens, other: Tokens, expected: int) -> None:
    assert shared_length(one, other) == shared_length(other, one) == expected


@given(
    begin=st.lists(st.integers(0, 2)),
    one=st.lists(st.integers(0, 2)),
    other=st.lists(st.integers(0, 2)),
)
@settings(deadline=None)
def test_the_shared_length_is_that_of_the_longest_common_beginning(
    begin: list[int], one: list[int], other: list[int]
) -> None:
    first, second = (*begin, *one), (*begin, *other)
    common = shared_length(first, second)
    assert common >= len(begin)
    assert first[:common] == second[:common]
    assert first[: common + 1] != second[: common + 1] or common == len(first) == len(second)
