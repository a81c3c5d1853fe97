import math
import random
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.learner.plan import micro_batches
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample, episodes_of
from tests.builders.samples import sample


def test_micro_batches_keep_to_the_token_budget_and_use_every_sample_once() -> None:
    lengths = [9, 2, 5, 30, 5, 8, 2, 20]
    # No two begin alike; later samples begin with lower tokens.
    samples = [sample(n, first=1000 - 100 * i) for i, n in enumerate(lengths)]
    blocks = micro_batches(samples, max_tokens=20)
    assert blocks == [[[7]], [[6, 5, 4]], [[3]], [[2, 1, 0]]], "20; 2 + 8 + 5; 30 alone; 5 + 2 + 9"
    assert micro_batches(samples, max_tokens=20, share_prefixes=False) == blocks
    assert micro_batches(samples, max_tokens=31) == [[[7, 6, 5]], [[4]], [[3]], [[2, 1, 0]]]
    assert micro_batches(samples, max_tokens=81) == [[[7, 6, 5, 4, 3, 2, 1, 0]]]
    # 81 positions for three ranks are 27 each, though a micro-batch may hold more.
    assert micro_batches(samples, max_tokens=81, shares=3) == [
        [[7, 6]],
        [[5, 4]],
        [[3]],
        [[2, 1, 0]],
    ]


def test_a_shared_token_counts_once_in_the_budget() -> None:
    # Each is the beginning of the next longer one.
    lengths = [9, 2, 5, 30, 5, 8, 2, 20]
    samples = [sample(n) for n in lengths]
    assert micro_batches(samples, max_tokens=20) == [[[1, 6, 2, 4, 5, 0, 7]], [[3]]], (
        "the longest of them takes 20"
    )
    assert micro_batches(samples, max_tokens=30) == [[[1, 6, 2, 4, 5, 0, 7, 3]]]
    # Two ranks share 30 positions, not 81.
    assert micro_batches(samples, max_tokens=30, shares=2) == [[[1, 6, 2, 4, 5, 0]], [[7]], [[3]]]
    apart = micro_batches(samples, max_tokens=20, share_prefixes=False)
    assert apart == [[[1, 6, 2, 4]], [[5, 0]], [[7]], [[3]]], "2 + 2 + 5 + 5; 8 + 9; 20; 30 alone"


def test_groups_meet_in_a_micro_batch() -> None:
    # Three groups of four: 6 tokens alike and 2 of each one's own, so 6 + 4 * 2 positions, in an
    # order that mixes them.
    def member(group: int, number: int) -> TrainingSample:
        return replace(
            sample(8), token_ids=(*range(100 * group, 100 * group + 6), 50 + number, 60 + number, 0)
        )

    order = [(group, number) for number in range(4) for group in (2, 0, 1)]
    samples = [member(group, number) for group, number in order]
    together = micro_batches(samples, max_tokens=14)
    assert [[order[i] for i in one] for (one,) in together] == [
        [(g, n) for n in range(4)] for g in range(3)
    ]
    # With 13 there is no room for the fourth, and behind that, none for the 8 of the next group's
    # first.
    cut = micro_batches(samples, max_tokens=13)
    assert [[order[i] for i in one] for (one,) in cut] == [
        part for g in range(3) for part in ([(g, 0), (g, 1), (g, 2)], [(g, 3)])
    ]
    assert len(micro_batches(samples, max_tokens=14, share_prefixes=False)) == 12


def test_an_episode_of_many_parts_is_one_block() -> None:
    lengths = [6, 3, 7, 2, 9]
    episodes = [1, 1, 1, -1, 2]
    samples = [
        sample(n, first=100 * i, episode=e)
        for i, (n, e) in enumerate(zip(lengths, episodes, strict=True))
    ]
    # 16 positions of episode 1 in micro-batches of 10; the others share a block, as 9 + 2 is more
    # than 10, or do not.
    assert micro_batches(samples, max_tokens=10) == [[[2, 1], [0]], [[3]], [[4]]]
    assert micro_batches(samples, max_tokens=11) == [[[2, 1], [0]], [[3, 4]]]
    assert micro_batches(samples, max_tokens=16) == [[[0, 1, 2]], [[3, 4]]]
    assert micro_batches(samples, max_tokens=1) == [[[2], [0], [1]], [[3]], [[4]]]
    assert micro_batches([], max_tokens=1) == []


def test_the_parts_of_an_episode_share_their_beginning() -> None:
    samples = [sample(n, episode=1) for n in (6, 3, 7)]
    assert micro_batches(samples, max_tokens=7) == [[[0, 1, 2]]]
    assert micro_batches(samples, max_tokens=7, share_prefixes=False) == [[[2], [0], [1]]]


# Inputs of two tokens begin alike often. An episode is one sample or up to three.
EPISODES = st.lists(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), min_size=1, max_size=3),
    min_size=1,
    max_size=8,
)


@given(
    episodes=EPISODES,
    max_tokens=st.integers(1, 40),
    shares=st.integers(1, 4),
    share_prefixes=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(deadline=None, max_examples=300)
def test_any_micro_batches_keep_to_the_budget_and_their_episodes_together(
    episodes: list[list[list[int]]], max_tokens: int, shares: int, share_prefixes: bool, seed: int
) -> None:
    samples = [
        replace(
            sample(len(inputs)), token_ids=(*inputs, 9), episode=number if len(parts) > 1 else -1
        )
        for number, parts in enumerate(episodes)
        for inputs in parts
    ]
    random.Random(seed).shuffle(samples)

    def size(indices: Iterable[int]) -> int:
        return PrefixTree.of([samples[i].inputs for i in indices], share=share_prefixes).size

    blocks = micro_batches(samples, max_tokens, shares=shares, share_prefixes=share_prefixes)
    assert sorted(i for block in blocks for one in block for i in one) == list(range(len(samples)))
    part = math.ceil(size(range(len(samples))) / shares)
    for block in blocks:
        inside = {i for one in block for i in one}
        of_block = [set(parts) for parts in episodes_of(samples) if inside & set(parts)]
        assert set().union(*of_block) == inside, "an episode is whole in its block"
        assert all(size(one) <= max_tokens or len(one) == 1 for one in block)
        assert all(block)
        if len(block) > 1:
            assert len(of_block) == 1, "only an episode needs several"
            assert size(inside) > max_tokens
        if len(of_block) > 1:
            assert size(inside) <= part, (
                "with more than one episode, a block is no more than a rank's part"
            )
