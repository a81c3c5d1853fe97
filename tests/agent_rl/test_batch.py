import math
import random
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from agent_rl.batch import Batch, TrainingSample, episodes_of, micro_batches, minibatches, samples_from_group
from envs import Task
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory, TrajectoryGroup, Turn

TASK = Task(env_id="toy", split="train", family="toy", id="0")


def sample(length: int, advantage: float = 1.0, **others: Any) -> TrainingSample:
    """A context token and `length` agent tokens, which are as many positions."""
    return TrainingSample(
        token_ids=tuple(range(length + 1)),
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
SILENT = TrainingSample(token_ids=(1, 2), action_mask=(False, False), behavior_logprobs=(0.0, 0.0), advantages=())


def trajectory(rewards: list[float], stop_reason: StopReason) -> Trajectory:
    """A turn of two tokens for each reward; they all see the same room."""
    completion = Completion(token_ids=(21, 2), logprobs=(-0.1, -0.2), finish_reason=FinishReason.STOP, policy_version=0)
    turns = tuple(
        Turn(
            observation="a room",
            prompt_token_ids=(1, 17, 4),
            completion=completion,
            action=ParsedAction(text="look", command="look"),
            admissible=True,
            reward=reward,
        )
        for reward in rewards
    )
    return Trajectory(task=TASK, turns=turns, stop_reason=stop_reason, success=stop_reason is StopReason.SUCCESS)


def test_turns_are_the_runs_of_the_mask() -> None:
    assert TWO_TURNS.turn_ids == (-1, -1, -1, 0, 0, -1, -1, 1, 1, 1)
    assert (TWO_TURNS.turns, TWO_TURNS.agent_tokens) == (2, 5)
    assert (SILENT.turns, SILENT.agent_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("advantages", "expected"), [((0.0, 0.0), False), ((0.0, -1e-9), True), ((1.0, -1.0), True), ((0.0, -0.0), False)]
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
        {"action_mask": (False, True, False, True), "token_ids": (1, 2, 3, 4), "behavior_logprobs": (0.0,) * 4},
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
    group = TrajectoryGroup(
        task=TASK,
        trajectories=(
            trajectory([0.0, 1.0], StopReason.SUCCESS),
            trajectory([9.0], StopReason.ENV_ERROR),
            trajectory([0.0], StopReason.MAX_TURNS),
            Trajectory(task=TASK, turns=(), stop_reason=StopReason.TIMEOUT, success=False),
        ),
    )
    samples = samples_from_group(group)
    assert [s.advantages for s in samples] == [
        pytest.approx([2**-0.5, 2**-0.5], abs=1e-5),
        pytest.approx([-(2**-0.5)], abs=1e-5),
    ]
    assert samples[1].token_ids == (1, 17, 4, 21, 2)
    assert samples[1].action_mask == (False, False, False, True, True)
    assert samples[1].behavior_logprobs == (0.0, 0.0, 0.0, -0.1, -0.2)


def test_a_group_is_compared_as_it_is_told() -> None:
    group = TrajectoryGroup(
        task=TASK,
        trajectories=(trajectory([0.0, 0.0, 1.0], StopReason.SUCCESS), trajectory([0.0], StopReason.MAX_TURNS)),
    )
    assert [s.advantages for s in samples_from_group(group, "leave_one_out")] == [(1.0, 1.0, 1.0), (-1.0,)]
    # Rows 1, 1, 1, 0: mean 3/4, std 1/2.
    weighted = samples_from_group(group, "step_weighted")
    assert [s.advantages[0] for s in weighted] == pytest.approx([0.5, -1.5], abs=1e-5)


def test_step_groups_add_the_turns_advantages_to_the_episodes() -> None:
    # From the room, which all turns see: 1/4, 1/2, 1 and 0. mean 7/16; squared deviations over 256 are
    # 9 + 1 + 81 + 49 = 140, over 3; std = sqrt(140 / 768).
    group = TrajectoryGroup(
        task=TASK,
        trajectories=(trajectory([0.0, 0.0, 1.0], StopReason.SUCCESS), trajectory([0.0], StopReason.MAX_TURNS)),
    )
    samples = samples_from_group(group, "step_groups", step_discount=0.5, step_advantage_weight=2.0)
    std = math.sqrt(140 / 768)
    steps = [-3 / 16 / std, 1 / 16 / std, 9 / 16 / std, -7 / 16 / std]
    expected = [2**-0.5 + 2 * step for step in steps[:3]] + [-(2**-0.5) + 2 * steps[3]]
    assert [a for s in samples for a in s.advantages] == pytest.approx(expected, abs=1e-4)


def test_the_batch_packs_and_shifts_by_one() -> None:
    batch = Batch.from_samples([TWO_TURNS, sample(2, advantage=-1.0)])
    assert batch.lengths == (9, 2)
    assert batch.input_ids_T.tolist() == [1, 17, 4, 21, 2, 9, 4, 22, 23, 0, 1]
    assert batch.position_ids_T.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1]
    assert batch.predicts_N.tolist() == [2, 3, 6, 7, 8, 9, 10]
    assert batch.target_ids_N.tolist() == [21, 2, 22, 23, 2, 1, 2]
    assert batch.sample_N.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert batch.turn_N.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert batch.episode_N.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert batch.behavior_logprobs_N.tolist() == pytest.approx([-0.1, -0.2, -0.3, -0.4, -0.5, 0.0, 0.0])
    assert batch.advantage_N.tolist() == [0.5, 0.5, -0.25, -0.25, -0.25, -1.0, -1.0]


def test_a_target_stands_behind_the_position_that_predicts_it() -> None:
    samples = [sample(4), TWO_TURNS, sample(3)]
    batch = Batch.from_samples(samples)
    for at, target, number in zip(
        batch.predicts_N.tolist(), batch.target_ids_N.tolist(), batch.sample_N.tolist(), strict=True
    ):
        within = at - sum(batch.lengths[:number])
        assert samples[number].token_ids[within] == batch.input_ids_T[at]
        assert samples[number].token_ids[within + 1] == target
        assert samples[number].action_mask[within + 1]


def test_parts_of_an_episode_share_its_number() -> None:
    samples = [sample(1), sample(1, episode=7), sample(1), sample(2, episode=7), sample(1, episode=0)]
    batch = Batch.from_samples(samples)
    assert batch.episode_N.tolist() == [0, 1, 2, 1, 1, 3]
    assert batch.turn_N.tolist() == [0, 1, 2, 3, 3, 4]
    assert episodes_of(samples) == [[0], [1, 3], [2], [4]]


def test_a_sample_without_agent_tokens_takes_positions_only() -> None:
    batch = Batch.from_samples([SILENT, sample(1)])
    assert batch.lengths == (1, 1)
    assert batch.predicts_N.tolist() == [1]
    assert batch.turn_N.tolist() == [0]


@pytest.mark.parametrize("garbage", [math.inf, -math.inf, math.nan])
def test_what_stands_at_an_observation_does_not_reach_the_batch(garbage: float) -> None:
    logprobs = tuple(
        x if bit else garbage for x, bit in zip(TWO_TURNS.behavior_logprobs, TWO_TURNS.action_mask, strict=True)
    )
    clean = Batch.from_samples([TWO_TURNS])
    batch = Batch.from_samples([replace(TWO_TURNS, behavior_logprobs=logprobs)])
    assert torch.equal(batch.behavior_logprobs_N, clean.behavior_logprobs_N)


def test_a_batch_has_the_dtype_that_is_asked_for_and_survives_a_move() -> None:
    batch = Batch.from_samples([TWO_TURNS], dtype=torch.float64)
    assert batch.behavior_logprobs_N.dtype == batch.advantage_N.dtype == torch.float64
    moved = batch.to(torch.device("cpu"))
    assert moved.lengths == batch.lengths
    for field in fields(Batch):
        if field.name != "lengths":
            assert torch.equal(getattr(moved, field.name), getattr(batch, field.name)), field.name


def test_micro_batches_keep_to_the_token_budget_and_use_every_sample_once() -> None:
    lengths = [9, 2, 5, 30, 5, 8, 2, 20]
    blocks = micro_batches([sample(n) for n in lengths], max_tokens=20)
    assert [[[lengths[i] for i in one] for one in block] for block in blocks] == [
        [[30]],
        [[20]],
        [[9, 8, 2]],
        [[5, 5, 2]],
    ]
    assert sorted(i for block in blocks for one in block for i in one) == list(range(8))


def test_an_episode_of_many_parts_is_one_block() -> None:
    lengths = [6, 3, 7, 2, 9]
    episodes = [1, 1, 1, -1, 2]
    samples = [sample(n, episode=e) for n, e in zip(lengths, episodes, strict=True)]
    # 16 positions of episode 1 in micro-batches of 10; the others share a block, as 9 + 2 is more than 10, or do not.
    assert micro_batches(samples, max_tokens=10) == [[[2, 1], [0]], [[4]], [[3]]]
    assert micro_batches(samples, max_tokens=11) == [[[2, 1], [0]], [[4, 3]]]
    assert micro_batches(samples, max_tokens=16) == [[[0, 1, 2]], [[4, 3]]]
    assert micro_batches(samples, max_tokens=1) == [[[2], [0], [1]], [[4]], [[3]]]
    assert micro_batches([], max_tokens=1) == []


def test_minibatches_use_every_episode_once_in_an_order_of_the_generator() -> None:
    ten = [[i] for i in range(10)]
    first = minibatches(ten, 4, random.Random(0))
    assert sorted(len(part) for part in first) == [2, 2, 3, 3]
    assert sorted(i for part in first for i in part) == list(range(10))
    assert minibatches(ten, 4, random.Random(0)) == first
    assert minibatches(ten, 4, random.Random(1)) != first
    assert [len(part) for part in minibatches(ten[:2], 4, random.Random(0))] == [1, 1]


def test_an_episodes_parts_stay_in_one_minibatch() -> None:
    episodes = [[0, 5, 6], [1], [2, 4], [3]]
    for seed in range(5):
        steps = minibatches(episodes, 2, random.Random(seed))
        assert sorted(i for step in steps for i in step) == list(range(7))
        for parts in episodes:
            assert sum(bool(set(parts) & set(step)) for step in steps) == 1
