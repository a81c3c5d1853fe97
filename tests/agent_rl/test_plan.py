import random
from collections import Counter

import pytest

from agent_rl.batch import TrainingSample, episodes_of
from agent_rl.plan import StepPlan, plan_update

BUDGET = 20


def sample(positions: int, advantage: float = 1.0, episode: int = -1) -> TrainingSample:
    """One turn of `positions` agent tokens."""
    return TrainingSample(
        token_ids=tuple(range(positions + 1)),
        action_mask=(False, *(True for _ in range(positions))),
        behavior_logprobs=(0.0,) * (positions + 1),
        advantages=(advantage,),
        episode=episode,
    )


def silent(episode: int = -1) -> TrainingSample:
    return TrainingSample(
        token_ids=(0, 1), action_mask=(False, False), behavior_logprobs=(0.0, 0.0), advantages=(), episode=episode
    )


def random_samples(seed: int) -> list[TrainingSample]:
    """Episodes of one sample to five; some are longer than the budget, without agent tokens, or without advantage."""
    rng = random.Random(seed)
    samples = []
    for episode in range(rng.randint(3, 12)):
        parts = rng.choice([1, 1, 2, 5])
        key = episode if parts > 1 else -1
        advantage = rng.choice([0.0, 1.0, -1.0])
        samples += [
            silent(key) if rng.random() < 0.1 else sample(rng.choice([1, 3, 8, 15, 30]), advantage, key)
            for _ in range(parts)
        ]
    rng.shuffle(samples)
    return samples


def plan(
    samples: list[TrainingSample], *, ranks: int = 1, optimizer_steps: int = 1, everything: bool = False, seed: int = 0
) -> list[tuple[list[int], StepPlan]]:
    return plan_update(
        samples,
        optimizer_steps=optimizer_steps,
        max_tokens=BUDGET,
        ranks=ranks,
        needed=lambda one: everything or one.has_gradient,
        rng=random.Random(seed),
    )


RANDOM = pytest.mark.parametrize("seed", range(12))


@RANDOM
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("everything", [True, False])
def test_every_needed_sample_is_taken_once(seed: int, ranks: int, everything: bool) -> None:
    samples = random_samples(seed)
    steps = plan(samples, ranks=ranks, optimizer_steps=3, everything=everything, seed=seed)
    assert sorted(i for indices, _ in steps for i in indices) == list(range(len(samples)))
    taken = Counter(i for _, step in steps for rank in range(ranks) for i in step.samples_of(rank))
    expected = {i for i, one in enumerate(samples) if one.agent_tokens}
    if not everything:
        whole = [parts for parts in episodes_of(samples) if any(samples[i].has_gradient for i in parts)]
        expected &= {i for parts in whole for i in parts}
    assert taken == dict.fromkeys(expected, 1)
    for indices, step in steps:
        assert {i for rank in range(ranks) for i in step.samples_of(rank)} <= set(indices)


@RANDOM
def test_the_budget_is_kept_but_for_single_samples(seed: int) -> None:
    samples = random_samples(seed)
    for _, step in plan(samples, ranks=2, optimizer_steps=2, everything=True):
        for blocks in step.blocks:
            for pack in [pack for block in blocks for pack in block]:
                assert len(pack) == 1 or sum(len(samples[i].token_ids) - 1 for i in pack) <= BUDGET
                assert pack


@RANDOM
def test_an_episodes_parts_are_in_one_block_of_one_rank_and_step(seed: int) -> None:
    samples = random_samples(seed)
    steps = plan(samples, ranks=3, optimizer_steps=3, everything=True, seed=seed)
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
            assert len({samples[i].episode for pack in block for i in pack}) == 1, "only an episode needs several"
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
    assert sorted(step.samples_of(0)) == [1, 4, 5], "a part without advantage stays with its episode"
    ((_, step),) = plan(samples, everything=True)
    assert sorted(step.samples_of(0)) == [0, 1, 2, 3, 4, 5]


def test_passes_are_counted_by_hand() -> None:
    # Episode 1 takes 45 positions, a block of three micro-batches; 12 and 8 share one, and 19 has its own.
    samples = [sample(15, 1.0, 1), sample(15, 1.0, 1), sample(15, 1.0, 1), sample(19), sample(12), sample(8)]
    step = StepPlan.of(samples, range(6), BUDGET, ranks=2)
    assert step.blocks == [[[[0], [1], [2]]], [[[4, 5]], [[3]]]]
    assert (step.passes, step.first_passes) == (3, 3)
    assert [step.passes_of(rank) for rank in range(2)] == [3, 2]
    one = StepPlan.of(samples, range(6), BUDGET, ranks=1)
    assert (one.passes, one.first_passes) == (5, 3)
    short = StepPlan.of(samples, [3, 4, 5], BUDGET, ranks=3)
    assert (short.passes, short.first_passes) == (1, 0)
    assert [short.passes_of(rank) for rank in range(3)] == [1, 1, 1]


def test_nothing_to_take_is_no_pass() -> None:
    step = StepPlan.of([sample(3)], [], BUDGET, ranks=2)
    assert step.blocks == [[], []]
    assert (step.passes, step.first_passes) == (0, 0)
    ((indices, step),) = plan([sample(3, 0.0)])
    assert indices == [0]
    assert step.passes == 0


def test_the_ranks_get_about_as_much() -> None:
    rng = random.Random(0)
    samples = [sample(rng.randint(1, BUDGET)) for _ in range(60)]
    step = StepPlan.of(samples, range(60), BUDGET, ranks=4)
    loads = [sum(len(samples[i].token_ids) for i in step.samples_of(rank)) for rank in range(4)]
    assert max(loads) - min(loads) <= 2 * BUDGET


def test_fewer_episodes_than_optimizer_steps_give_fewer_steps() -> None:
    steps = plan([sample(3), sample(3, 1.0, 5), sample(3, 1.0, 5)], optimizer_steps=4)
    assert sorted(sorted(indices) for indices, _ in steps) == [[0], [1, 2]]


def test_the_shuffle_is_the_generators_and_does_not_depend_on_the_ranks() -> None:
    samples = [sample(3) for _ in range(9)]
    alone, shared = (plan(samples, ranks=ranks, optimizer_steps=3, seed=1) for ranks in (1, 4))
    assert [indices for indices, _ in alone] == [indices for indices, _ in shared]
    assert [indices for indices, _ in alone] != [i for i, _ in plan(samples, optimizer_steps=3, seed=2)]
