import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from itertools import accumulate, pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.learner.batch import Batch
from agent_rl.learner.plan import micro_batches, minibatches
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample, episodes_of, groups_of, samples_from_group
from rollouts.types import StopReason, Trajectory
from tests.builders.episodes import group, trajectory, turn


def sample(length: int, advantage: float = 1.0, *, first: int = 0, **others: Any) -> TrainingSample:
    """A context token, `first`, and `length` agent tokens behind it, which are as many positions.

    Of two with the same first token, one is the other's beginning; with different ones, they share
    nothing.
    """
    return TrainingSample(
        token_ids=tuple(range(first, first + length + 1)),
        action_mask=(False, *(True for _ in range(length))),
        behavior_logprobs=(0.0,) * (length + 1),
        advantages=(advantage,),
        **others,
    )


# The worked example of rollouts.types: two turns, end token 2.
TWO_TURNS = TrainingSample(
    token_ids=(1, 17, 4, 21, 2, 9, 4, 22, 23, 2),
    action_mask=(False, False, False, True, True, False, False, True, True, True),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.1, -0.2, 0.0, 0.0, -0.3, -0.4, -0.5),
    advantages=(0.5, -0.25),
)
SILENT = TrainingSample(
    token_ids=(1, 2), action_mask=(False, False), behavior_logprobs=(0.0, 0.0), advantages=()
)


def episode(rewards: list[float], stop_reason: StopReason) -> Trajectory:
    """A turn of two tokens for each reward; they all see the same room."""
    turns = (
        turn((1, 17, 4), (21, 2), logprobs=(-0.1, -0.2), observation="a room", reward=reward)
        for reward in rewards
    )
    return trajectory(*turns, stop_reason=stop_reason)


def test_turns_are_the_runs_of_the_mask() -> None:
    assert TWO_TURNS.turn_ids == (-1, -1, -1, 0, 0, -1, -1, 1, 1, 1)
    assert (TWO_TURNS.turns, TWO_TURNS.agent_tokens) == (2, 5)
    assert (SILENT.turns, SILENT.agent_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("advantages", "expected"),
    [((0.0, 0.0), False), ((0.0, -1e-9), True), ((1.0, -1.0), True), ((0.0, -0.0), False)],
)
def test_a_sample_has_a_gradient_where_some_turn_has_an_advantage(
    advantages: tuple[float, ...], expected: bool
) -> None:
    assert replace(TWO_TURNS, advantages=advantages).has_gradient is expected
    assert not SILENT.has_gradient


@pytest.mark.parametrize(
    "wrong",
    [
        {"action_mask": (True, True, True)},
        {"action_mask": (False, True)},
        {"behavior_logprobs": (0.0, 0.0, 0.0, 0.0)},
        {"token_ids": (1,), "action_mask": (False,), "behavior_logprobs": (0.0,), "advantages": ()},
        {"advantages": ()},
        {"advantages": (1.0, 1.0)},
        {
            "action_mask": (False, True, False, True),
            "token_ids": (1, 2, 3, 4),
            "behavior_logprobs": (0.0,) * 4,
        },
    ],
)
def test_a_sample_is_checked_when_it_is_made(wrong: dict[str, Any]) -> None:
    right = {
        "token_ids": (1, 2, 3),
        "action_mask": (False, True, True),
        "behavior_logprobs": (0.0, 0.0, 0.0),
        "advantages": (0.0,),
    }
    TrainingSample(**right)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        TrainingSample(**{**right, **wrong})


def test_a_group_gives_a_sample_for_each_episode_that_trains() -> None:
    played = group(
        episode([0.0, 1.0], StopReason.SUCCESS),
        episode([9.0], StopReason.ENV_ERROR),
        episode([0.0], StopReason.MAX_TURNS),
        episode([], StopReason.TIMEOUT),
    )
    samples = samples_from_group(played)
    assert [s.advantages for s in samples] == [
        pytest.approx([2**-0.5, 2**-0.5], abs=1e-5),
        pytest.approx([-(2**-0.5)], abs=1e-5),
    ]
    assert samples[1].token_ids == (1, 17, 4, 21, 2)
    assert samples[1].action_mask == (False, False, False, True, True)
    assert samples[1].behavior_logprobs == (0.0, 0.0, 0.0, -0.1, -0.2)


def test_a_group_is_compared_as_it_is_told() -> None:
    played = group(
        episode([0.0, 0.0, 1.0], StopReason.SUCCESS), episode([0.0], StopReason.MAX_TURNS)
    )
    assert [s.advantages for s in samples_from_group(played, "leave_one_out")] == [
        (1.0, 1.0, 1.0),
        (-1.0,),
    ]
    # Rows 1, 1, 1, 0: mean 3/4, std 1/2.
    weighted = samples_from_group(played, "turn_weighted")
    assert [s.advantages[0] for s in weighted] == pytest.approx([0.5, -1.5], abs=1e-5)


def test_turn_groups_add_the_turns_advantages_to_the_episodes() -> None:
    # From the room, which all turns see: 1/4, 1/2, 1 and 0. mean 7/16; squared deviations over 256
    # are 9 + 1 + 81 + 49 = 140, over 3; std = sqrt(140 / 768).
    played = group(
        episode([0.0, 0.0, 1.0], StopReason.SUCCESS), episode([0.0], StopReason.MAX_TURNS)
    )
    samples = samples_from_group(
        played, "turn_groups", turn_discount=0.5, turn_advantage_weight=2.0
    )
    std = math.sqrt(140 / 768)
    steps = [-3 / 16 / std, 1 / 16 / std, 9 / 16 / std, -7 / 16 / std]
    expected = [2**-0.5 + 2 * step for step in steps[:3]] + [-(2**-0.5) + 2 * steps[3]]
    assert [a for s in samples for a in s.advantages] == pytest.approx(expected, abs=1e-4)


def test_the_batch_packs_and_shifts_by_one() -> None:
    batch = Batch.from_samples([TWO_TURNS, sample(2, advantage=-1.0, first=30)])
    assert (batch.tree.size, batch.tokens) == (11, 11)
    assert batch.input_ids_T.tolist() == [1, 17, 4, 21, 2, 9, 4, 22, 23, 30, 31]
    assert batch.position_ids_T.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    assert batch.row_N.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert batch.predicts_R.tolist() == [2, 3, 6, 7, 8, 9, 10]
    assert batch.target_ids_R.tolist() == [21, 2, 22, 23, 2, 31, 32]
    assert batch.sample_N.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert batch.turn_N.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch.episode_N.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert batch.behavior_logprobs_N.tolist() == pytest.approx(
        [-0.1, -0.2, -0.3, -0.4, -0.5, 0.0, 0.0]
    )
    assert batch.advantage_N.tolist() == [0.5, 0.5, -0.25, -0.25, -0.25, -1.0, -1.0]


# They begin with 1 17 4; then BRIEF has the first turn of TWO_TURNS, and OTHER says something else.
BRIEF = TrainingSample(
    token_ids=(1, 17, 4, 21, 2),
    action_mask=(False, False, False, True, True),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.6, -0.7),
    advantages=(2.0,),
)
OTHER = replace(
    BRIEF,
    token_ids=(1, 17, 4, 22, 2),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.8, -0.9),
    advantages=(3.0,),
)


def test_what_samples_begin_with_alike_stands_in_the_batch_once() -> None:
    # In order: BRIEF's 1 17 4 21; then 2 9 4 22 23, which TWO_TURNS adds; then OTHER's 22 behind 1
    # 17 4.
    batch = Batch.from_samples([TWO_TURNS, OTHER, BRIEF])
    assert (batch.tree.size, batch.tokens) == (10, 9 + 4 + 4)
    assert [(branch.begin, branch.end, branch.before) for branch in batch.tree.branches] == [
        (0, 4, ()),
        (4, 9, ((0, 4),)),
        (9, 10, ((0, 3),)),
    ]
    assert batch.input_ids_T.tolist() == [1, 17, 4, 21, 2, 9, 4, 22, 23, 22]
    assert batch.position_ids_T.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]
    # Five predictions of TWO_TURNS, two of OTHER, whose first one is another token after the same
    # position 2; both of BRIEF's are those of TWO_TURNS.
    assert batch.predicts_R.tolist() == [2, 3, 6, 7, 8, 2, 9]
    assert batch.target_ids_R.tolist() == [21, 2, 22, 23, 2, 22, 2]
    assert batch.row_N.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    # What is a sample's own stays so.
    assert batch.sample_N.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert batch.turn_N.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3]
    assert batch.episode_N.tolist() == [0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert batch.advantage_N.tolist() == [0.5, 0.5, -0.25, -0.25, -0.25, 3.0, 3.0, 2.0, 2.0]
    assert batch.behavior_logprobs_N.tolist() == pytest.approx(
        [-0.1, -0.2, -0.3, -0.4, -0.5, -0.8, -0.9, -0.6, -0.7]
    )


def test_a_batch_that_shares_nothing_has_its_samples_one_after_the_other() -> None:
    batch = Batch.from_samples([TWO_TURNS, OTHER, BRIEF], share_prefixes=False)
    assert batch.tree.size == batch.tokens == 17
    assert batch.input_ids_T.tolist() == [*TWO_TURNS.inputs, *OTHER.inputs, *BRIEF.inputs]
    assert batch.position_ids_T.tolist() == [*range(9), *range(4), *range(4)]
    assert batch.predicts_R.tolist() == [2, 3, 6, 7, 8, 11, 12, 15, 16]
    assert batch.target_ids_R.tolist() == [21, 2, 22, 23, 2, 22, 2, 21, 2]
    assert batch.row_N.tolist() == list(range(9))


@pytest.mark.parametrize("share_prefixes", [True, False])
def test_a_target_stands_behind_the_position_that_predicts_it(share_prefixes: bool) -> None:
    samples = [sample(4), TWO_TURNS, sample(3), OTHER, sample(2, first=1), BRIEF]
    batch = Batch.from_samples(samples, share_prefixes=share_prefixes)
    seen: list[list[int]] = [[] for _ in samples]
    for row, number in zip(batch.row_N.tolist(), batch.sample_N.tolist(), strict=True):
        at = int(batch.predicts_R[row])
        within = batch.tree.positions(number).index(at)
        assert samples[number].token_ids[within] == batch.input_ids_T[at]
        assert batch.position_ids_T[at] == within
        assert samples[number].token_ids[within + 1] == batch.target_ids_R[row]
        seen[number].append(within + 1)
    assert seen == [[i for i, is_action in enumerate(s.action_mask) if is_action] for s in samples]


def test_parts_of_an_episode_share_its_number() -> None:
    samples = [
        sample(1),
        sample(1, episode=7),
        sample(1),
        sample(2, episode=7),
        sample(1, episode=0),
    ]
    batch = Batch.from_samples(samples)
    assert batch.episode_N.tolist() == [0, 1, 2, 1, 1, 3]
    assert batch.turn_N.tolist() == [0, 1, 2, 3, 3, 4]
    assert episodes_of(samples) == [[0], [1, 3], [2], [4]]


def test_a_sample_without_agent_tokens_takes_positions_only() -> None:
    batch = Batch.from_samples([SILENT, sample(1, first=5)])
    assert batch.tree.size == batch.tokens == 2
    assert batch.predicts_R.tolist() == [1]
    assert batch.turn_N.tolist() == [0]


@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan])
def test_what_stands_at_an_observation_does_not_reach_the_batch(garbage: float) -> None:
    logprobs = tuple(
        x if bit else garbage
        for x, bit in zip(TWO_TURNS.behavior_logprobs, TWO_TURNS.action_mask, strict=True)
    )
    clean = Batch.from_samples([TWO_TURNS])
    batch = Batch.from_samples([replace(TWO_TURNS, behavior_logprobs=logprobs)])
    assert torch.equal(batch.behavior_logprobs_N, clean.behavior_logprobs_N)


def test_a_batch_has_the_dtype_that_is_asked_for_and_survives_a_move() -> None:
    batch = Batch.from_samples([TWO_TURNS], dtype=torch.float64)
    assert batch.behavior_logprobs_N.dtype == batch.advantage_N.dtype == torch.float64
    moved = batch.to(torch.device("cpu"))
    assert moved.tree == batch.tree
    assert moved.tokens == batch.tokens
    assert batch.tensors.keys() == {field.name for field in fields(Batch)} - {"tree", "tokens"}
    for name, tensor in batch.tensors.items():
        assert torch.equal(getattr(moved, name), tensor), name


def test_episodes_that_begin_with_the_same_prompt_are_a_group() -> None:
    # The prompt of TWO_TURNS, OTHER and BRIEF is 1 17 4; an episode's is that of its first sample.
    samples = [
        TWO_TURNS,
        sample(1, first=3),
        replace(sample(3, first=8), episode=4),
        OTHER,
        replace(BRIEF, episode=4),
        SILENT,
        sample(2, first=3),
        replace(BRIEF, episode=2),
        replace(SILENT, episode=2),
        SILENT,
    ]
    assert groups_of(samples) == [[[0], [3], [7, 8]], [[1], [6]], [[2, 4]], [[5], [9]]]
    assert groups_of([]) == []


def test_micro_batches_keep_to_the_token_budget_and_use_every_sample_once() -> None:
    lengths = [9, 2, 5, 30, 5, 8, 2, 20]
    # Each begins with a token of its own, the later ones with lower ones.
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


def test_the_parts_of_an_episode_share_what_they_begin_with() -> None:
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


def whole_groups(sizes: Sequence[int]) -> list[list[list[int]]]:
    """Groups of so many episodes of one sample each, numbered from 0."""
    ends = list(accumulate(sizes))
    return [[[i] for i in range(begin, end)] for begin, end in pairwise([0, *ends])]


def test_minibatches_use_every_episode_once_in_an_order_of_the_generator() -> None:
    ten = whole_groups([1] * 10)
    first = minibatches(ten, 4, random.Random(0))
    assert sorted(len(part) for part in first) == [2, 2, 3, 3]
    assert sorted(i for part in first for i in part) == list(range(10))
    assert minibatches(ten, 4, random.Random(0)) == first
    assert minibatches(ten, 4, random.Random(1)) != first
    assert [len(part) for part in minibatches(ten[:2], 4, random.Random(0))] == [1, 1]
    assert minibatches([], 4, random.Random(0)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_group_is_one_minibatch_where_there_are_as_many_steps(seed: int) -> None:
    groups = whole_groups([8] * 4)
    steps = minibatches(groups, 4, random.Random(seed))
    assert sorted(sorted(step) for step in steps) == [[i for (i,) in group] for group in groups]
    two = minibatches(groups, 2, random.Random(seed))
    assert [len({i // 8 for i in step}) for step in two] == [2, 2]
    # Eight steps of four episodes: two steps for each group.
    eight = minibatches(groups, 8, random.Random(seed))
    assert Counter(tuple({i // 8 for i in step}) for step in eight) == {(g,): 2 for g in range(4)}


def test_the_generator_orders_the_groups_and_the_episodes_in_them() -> None:
    groups = whole_groups([8] * 4)
    runs = [minibatches(groups, 4, random.Random(seed)) for seed in range(20)]
    assert len({run[0][0] // 8 for run in runs}) == 4, "each group is the first some time"
    assert all(run[k] != sorted(run[k]) for run in runs for k in range(4))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    steps=st.integers(1, 8),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_any_minibatches_are_of_one_size_and_cut_few_groups(
    sizes: list[int], steps: int, seed: int
) -> None:
    groups = whole_groups(sizes)
    got = minibatches(groups, steps, random.Random(seed))
    assert sorted(i for step in got for i in step) == list(range(sum(sizes)))
    assert len(got) == min(steps, sum(sizes))
    assert max(map(len, got)) - min(map(len, got)) <= 1
    # Where one step ends and the next one begins, at most one group is cut.
    pieces = sum(bool({i for (i,) in group} & set(step)) for group in groups for step in got)
    assert pieces <= len(groups) + len(got) - 1
    assert minibatches(groups, steps, random.Random(seed)) == got


def test_an_episodes_parts_stay_in_one_minibatch() -> None:
    episodes = [[0, 5, 6], [1], [2, 4], [3]]
    for seed in range(5):
        for groups in ([episodes], [episodes[:1], episodes[1:]], [[one] for one in episodes]):
            steps = minibatches(groups, 2, random.Random(seed))
            assert sorted(i for step in steps for i in step) == list(range(7))
            for parts in episodes:
                assert sum(bool(set(parts) & set(step)) for step in steps) == 1
