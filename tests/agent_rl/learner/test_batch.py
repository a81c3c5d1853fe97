import math
from dataclasses import fields, replace

import pytest
import torch

from agent_rl.learner.batch import Batch
from agent_rl.learner.prefix_tree import Branch
from agent_rl.learner.samples import TrainingSample, episodes_of
from tests.builders.samples import BRIEF, OTHER, TWO_TURNS, sample, silent


def test_the_drawn_example() -> None:
    """The tensors that the docstrings of `batch` and `prefix_tree` draw."""
    first = TrainingSample(
        token_ids=(7, 8, 4, 2, 9, 5),
        action_mask=(False, False, True, True, False, True),
        behavior_logprobs=(0.0,) * 6,
        advantages=(1.0, 1.0),
    )
    second = replace(first, token_ids=(7, 8, 4, 3, 9, 6))
    batch = Batch.from_samples([first, second])
    assert batch.input_ids_T.tolist() == [7, 8, 4, 2, 9, 3, 9]
    assert batch.position_ids_T.tolist() == [0, 1, 2, 3, 4, 3, 4]
    assert batch.tree.branches == (
        Branch(begin=0, end=5, before=()),
        Branch(begin=5, end=7, before=((0, 3),)),
    )
    assert batch.tree.paths == (((0, 5),), ((0, 3), (5, 7)))
    assert batch.predicts_R.tolist() == [1, 2, 4, 2, 6]
    assert batch.target_ids_R.tolist() == [4, 2, 5, 3, 6]
    assert batch.row_N.tolist() == [0, 1, 2, 0, 3, 4]
    assert batch.sample_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.turn_N.tolist() == [0, 0, 1, 2, 2, 3]
    assert batch.episode_N.tolist() == [0, 0, 0, 1, 1, 1]


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


def test_a_common_beginning_is_in_the_batch_once() -> None:
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
    # Each sample keeps its own numbers.
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
def test_a_target_follows_the_position_that_predicts_it(share_prefixes: bool) -> None:
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
    batch = Batch.from_samples([silent(), sample(1, first=5)])
    assert batch.tree.size == batch.tokens == 2
    assert batch.predicts_R.tolist() == [1]
    assert batch.turn_N.tolist() == [0]


@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan])
def test_values_at_an_observation_do_not_reach_the_batch(garbage: float) -> None:
    logprobs = tuple(
        x if bit else garbage
        for x, bit in zip(TWO_TURNS.behavior_logprobs, TWO_TURNS.action_mask, strict=True)
    )
    clean = Batch.from_samples([TWO_TURNS])
    batch = Batch.from_samples([replace(TWO_TURNS, behavior_logprobs=logprobs)])
    assert torch.equal(batch.behavior_logprobs_N, clean.behavior_logprobs_N)


def test_a_batch_has_the_given_dtype_and_survives_a_move() -> None:
    batch = Batch.from_samples([TWO_TURNS], dtype=torch.float64)
    assert batch.behavior_logprobs_N.dtype == batch.advantage_N.dtype == torch.float64
    moved = batch.to(torch.device("cpu"))
    assert moved.tree == batch.tree
    assert moved.tokens == batch.tokens
    assert batch.tensors.keys() == {field.name for field in fields(Batch)} - {"tree", "tokens"}
    for name, tensor in batch.tensors.items():
        assert torch.equal(getattr(moved, name), tensor), name
