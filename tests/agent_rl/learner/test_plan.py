import random
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.learner.plan import StepPlan, minibatches, plan_update
from agent_rl.learner.samples import TrainingSample, episodes_of
from tests.builders.samples import sample, silent

BUDGET = 20


def random_samples(seed: int) -> list[TrainingSample]:
    """Episodes of one sample to five, of four prompts.

    Some are longer than the budget, without agent tokens, or without advantage.
    """
    rng = random.Random(seed)
    samples = []
    for episode in range(rng.randint(3, 12)):
        parts = rng.choice([1, 1, 2, 5])
        key = episode if parts > 1 else -1
        advantage = rng.choice([0.0, 1.0, -1.0])
        samples += [
            silent(key)
            if rng.random() < 0.1
            else sample(rng.choice([1, 3, 8, 15, 30]), advantage, key, first=100 * rng.randrange(4))
            for _ in range(parts)
        ]
    rng.shuffle(samples)
    return samples


def plan(
    samples: list[TrainingSample],
    *,
    ranks: int = 1,
    optimizer_steps: int = 1,
    share_prefixes: bool = True,
    everything: bool = False,
    seed: int = 0,
) -> list[tuple[list[int], StepPlan]]:
    return plan_update(
        samples,
        optimizer_steps=optimizer_steps,
        max_tokens=BUDGET,
        ranks=ranks,
        share_prefixes=share_prefixes,
        needed=lambda one: everything or one.has_gradient,
        rng=random.Random(seed),
    )


RANDOM = pytest.mark.parametrize("seed", range(12))


SHARED_OR_NOT = pytest.mark.parametrize("share_prefixes", [True, False])


@RANDOM
@SHARED_OR_NOT
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("everything", [True, False])
def test_every_needed_sample_is_taken_once(
    seed: int, ranks: int, everything: bool, share_prefixes: bool
) -> None:
    samples = random_samples(seed)
    steps = plan(
        samples,
        ranks=ranks,
        optimizer_steps=3,
        everything=everything,
        share_prefixes=share_prefixes,
        seed=seed,
    )
    assert sorted(i for indices, _ in steps for i in indices) == list(range(len(samples)))
    taken = Counter(i for _, step in steps for rank in range(ranks) for i in step.samples_of(rank))
    expected = {i for i, one in enumerate(samples) if one.agent_tokens}
    if not everything:
        whole = [
            parts for parts in episodes_of(samples) if any(samples[i].has_gradient for i in parts)
        ]
        expected &= {i for parts in whole for i in parts}
    assert taken == dict.fromkeys(expected, 1)
    for indices, step in steps:
        assert {i for rank in range(ranks) for i in step.samples_of(rank)} <= set(indices)


@RANDOM
@SHARED_OR_NOT
def test_the_budget_is_kept_but_for_single_samples(seed: int, share_prefixes: bool) -> None:
    samples = random_samples(seed)
    for _, step in plan(
        samples, ranks=2, optimizer_steps=2, everything=True, share_prefixes=share_prefixes
    ):
        for blocks in step.blocks:
            for pack in [pack for block in blocks for pack in block]:
                # What goes through the model: a position is a beginning of a sample, which counts
                # once.
                positions = [
                    samples[i].inputs[:end]
                    for i in pack
                    for end in range(1, len(samples[i].inputs) + 1)
                ]
                size = len(set(positions)) if share_prefixes else len(positions)
                assert len(pack) == 1 or size <= BUDGET
                assert pack


@RANDOM
@SHARED_OR_NOT
def test_an_episodes_parts_are_in_one_block_of_one_rank_and_step(
    seed: int, share_prefixes: bool
) -> None:
    samples = random_samples(seed)
    steps = plan(
        samples,
        ranks=3,
        optimizer_steps=3,
        everything=True,
        share_prefixes=share_prefixes,
        seed=seed,
    )
    home = {
        i: (number, rank, at)
        for number, (_, step) in enumerate(steps)
        for rank, blocks in enumerate(step.blocks)
        for at, block in enumerate(blocks)
        for pack in block
        for i in pack
    }
    step_of = {i: number for number, (indices, _) in enumerate(steps) for i in indices}
    for parts in episodes_of(samples):
        assert len({home[i] for i in parts if i in home}) <= 1
        assert len({step_of[i] for i in parts}) == 1
    for _, step in steps:
        for block in [block for blocks in step.blocks for block in blocks if len(block) > 1]:
            assert len({samples[i].episode for pack in block for i in pack}) == 1, (
                "only an episode needs several"
            )
            assert samples[block[0][0]].episode >= 0


def test_an_episode_without_advantage_is_left_out_as_a_whole() -> None:
    samples = [
        sample(3, 0.0),
        sample(3, 1.0),
        sample(3, 0.0, 7),
        sample(3, 0.0, 7),
        sample(3, 0.0, 8),
        sample(3, 1.0, 8),
    ]
    ((indices, step),) = plan(samples)
    assert sorted(indices) == [0, 1, 2, 3, 4, 5], "the divisors count them all"
    assert sorted(step.samples_of(0)) == [1, 4, 5], (
        "a part without advantage stays with its episode"
    )
    ((_, step),) = plan(samples, everything=True)
    assert sorted(step.samples_of(0)) == [0, 1, 2, 3, 4, 5]


def test_passes_are_counted_by_hand() -> None:
    # Episode 1 takes 45 positions, a block of three micro-batches; 12 and 8 share one, and 19 has
    # its own.
    sizes = [15, 15, 15, 19, 12, 8]
    samples = [sample(n, 1.0, 1 if i < 3 else -1, first=100 * i) for i, n in enumerate(sizes)]
    step = StepPlan.of(samples, range(6), max_tokens=BUDGET, ranks=2)
    assert step.blocks == [[[[0], [1], [2]]], [[[4, 5]], [[3]]]]
    assert (step.passes, step.first_passes) == (3, 3)
    assert [step.passes_of(rank) for rank in range(2)] == [3, 2]
    one = StepPlan.of(samples, range(6), max_tokens=BUDGET, ranks=1)
    assert (one.passes, one.first_passes) == (5, 3)
    short = StepPlan.of(samples, [3, 4, 5], max_tokens=BUDGET, ranks=3)
    assert (short.passes, short.first_passes) == (1, 0)
    assert [short.passes_of(rank) for rank in range(3)] == [1, 1, 1]


def test_passes_over_shared_prefixes_are_counted_by_hand() -> None:
    # All six begin alike. In the order of their first parts: 8; 12, 4 more; the 15 of all of
    # episode 1, 3 more; 19, and 4 more: 19 in one micro-batch of one rank. Two ranks take no more
    # than 10 at a time: 8; 12; 15; 19.
    sizes = [15, 15, 15, 19, 12, 8]
    samples = [sample(n, 1.0, 1 if i < 3 else -1) for i, n in enumerate(sizes)]
    one = StepPlan.of(samples, range(6), max_tokens=BUDGET, ranks=1)
    assert one.blocks == [[[[5, 4, 0, 1, 2, 3]]]]
    assert (one.passes, one.first_passes) == (1, 0)
    # Largest first: 19; 15; 12 to the second, which has less; 8 to the first, with 19 against 27.
    two = StepPlan.of(samples, range(6), max_tokens=BUDGET, ranks=2)
    assert two.blocks == [[[[3]], [[5]]], [[[0, 1, 2]], [[4]]]]
    assert (two.passes, two.first_passes) == (2, 0)
    # Not shared they are as many as if they began otherwise.
    apart = StepPlan.of(samples, range(6), max_tokens=BUDGET, ranks=1, share_prefixes=False)
    assert apart.blocks == [[[[0], [1], [2]], [[5, 4]], [[3]]]]
    assert (apart.passes, apart.first_passes) == (5, 3)


def test_nothing_to_take_is_no_pass() -> None:
    step = StepPlan.of([sample(3)], [], max_tokens=BUDGET, ranks=2)
    assert step.blocks == [[], []]
    assert (step.passes, step.first_passes) == (0, 0)
    ((indices, step),) = plan([sample(3, 0.0)])
    assert indices == [0]
    assert step.passes == 0


def test_the_ranks_get_about_as_much() -> None:
    rng = random.Random(0)
    samples = [sample(rng.randint(1, BUDGET), first=100 * i) for i in range(60)]
    step = StepPlan.of(samples, range(60), max_tokens=BUDGET, ranks=4)
    loads = [sum(len(samples[i].token_ids) for i in step.samples_of(rank)) for rank in range(4)]
    assert max(loads) - min(loads) <= 2 * BUDGET


def test_the_ranks_get_about_as_many_positions() -> None:
    """Ten groups of six episodes; a common beginning is counted once for a rank."""
    rng = random.Random(0)
    samples = [
        sample(rng.randint(BUDGET // 2, BUDGET), first=100 * group)
        for group in range(10)
        for _ in range(6)
    ]
    step = StepPlan.of(samples, range(60), max_tokens=BUDGET, ranks=4)
    packs = [[pack for block in blocks for pack in block] for blocks in step.blocks]
    assert sum(map(len, packs)) == 10, "a group's longest episode is all of it"
    loads = [
        sum(max(len(samples[i].inputs) for i in pack) for pack in of_rank) for of_rank in packs
    ]
    assert max(loads) - min(loads) <= BUDGET


def test_a_rank_with_shared_prefixes_has_less_to_do() -> None:
    # Four of 6 that are the same, and three of 10, 9 and 8: the first four are 24 positions or 6.
    samples = [
        *(sample(6) for _ in range(4)),
        *(sample(10 - i, first=100 * (i + 1)) for i in range(3)),
    ]
    shared = StepPlan.of(samples, range(7), max_tokens=10, ranks=2)
    assert shared.blocks == [[[[4]], [[0, 1, 2, 3]]], [[[5]], [[6]]]], (
        "10; 9; 8 to the second; 6 to the first"
    )
    apart = StepPlan.of(samples, range(7), max_tokens=10, ranks=2, share_prefixes=False)
    assert apart.blocks == [[[[4]], [[0]], [[1]], [[3]]], [[[5]], [[6]], [[2]]]], (
        "10 against 9 and 8; 6, 6; 6; 6"
    )


def test_optimizer_steps_keep_groups_together() -> None:
    samples = [sample(3 + i % 3, first=100 * (i % 4)) for i in range(24)]
    steps = plan(samples, optimizer_steps=4)
    assert sorted(sorted(indices) for indices, _ in steps) == [
        [*range(group, 24, 4)] for group in range(4)
    ]
    assert all(step.passes == 1 for _, step in steps), "3, 4 and 5 positions, twice each, are 5"


def test_fewer_episodes_than_optimizer_steps_give_fewer_steps() -> None:
    steps = plan([sample(3), sample(3, 1.0, 5), sample(3, 1.0, 5)], optimizer_steps=4)
    assert sorted(sorted(indices) for indices, _ in steps) == [[0], [1, 2]]


def test_the_shuffle_is_the_generators_and_does_not_depend_on_the_ranks() -> None:
    samples = [sample(3) for _ in range(9)]
    alone, shared = (plan(samples, ranks=ranks, optimizer_steps=3, seed=1) for ranks in (1, 4))
    assert [indices for indices, _ in alone] == [indices for indices, _ in shared]
    assert [indices for indices, _ in alone] != [
        i for i, _ in plan(samples, optimizer_steps=3, seed=2)
    ]


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
def test_with_as_many_steps_as_groups_each_step_is_a_group(seed: int) -> None:
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
