import random

import pytest

from agent_rl.batch import Batch, TrainingSample, micro_batches, minibatches, samples_from_group
from envs import Task
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory, TrajectoryGroup, Turn

TASK = Task(env_id="toy", split="train", family="toy", id="0")


def sample(length: int, advantage: float = 1.0) -> TrainingSample:
    mask = (False, *(True for _ in range(length - 1)))
    return TrainingSample(
        token_ids=tuple(range(length)), action_mask=mask, behavior_logprobs=(0.0,) * length, advantage=advantage
    )


# The worked example of rollouts.types: two turns, end token 2.
TWO_TURNS = TrainingSample(
    token_ids=(1, 17, 4, 21, 2, 9, 4, 22, 23, 2),
    action_mask=(False, False, False, True, True, False, False, True, True, True),
    behavior_logprobs=(0.0, 0.0, 0.0, -0.1, -0.2, 0.0, 0.0, -0.3, -0.4, -0.5),
    advantage=0.5,
)


def trajectory(reward: float, stop_reason: StopReason) -> Trajectory:
    completion = Completion(token_ids=(21, 2), logprobs=(-0.1, -0.2), finish_reason=FinishReason.STOP, policy_version=0)
    turn = Turn(
        observation="a room",
        prompt_token_ids=(1, 17, 4),
        completion=completion,
        action=ParsedAction(text="look", command="look"),
        admissible=True,
        reward=reward,
    )
    return Trajectory(task=TASK, turns=(turn,), stop_reason=stop_reason, success=stop_reason is StopReason.SUCCESS)


def test_turns_are_the_runs_of_the_mask() -> None:
    assert TWO_TURNS.turn_ids == (-1, -1, -1, 0, 0, -1, -1, 1, 1, 1)
    assert (TWO_TURNS.turns, TWO_TURNS.agent_tokens) == (2, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"action_mask": (True, True, True)},
        {"action_mask": (False, True)},
        {"behavior_logprobs": (0.0, 0.0, 0.0, 0.0)},
        {"token_ids": (1,), "action_mask": (False,), "behavior_logprobs": (0.0,)},
    ],
)
def test_a_sample_is_checked_when_it_is_made(wrong: dict[str, tuple[object, ...]]) -> None:
    right = {"token_ids": (1, 2, 3), "action_mask": (False, True, True), "behavior_logprobs": (0.0, 0.0, 0.0)}
    TrainingSample(**right, advantage=0.0)  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        TrainingSample(**{**right, **wrong}, advantage=0.0)  # type: ignore[arg-type]


def test_a_group_gives_a_sample_for_each_episode_that_trains() -> None:
    group = TrajectoryGroup(
        task=TASK,
        trajectories=(
            trajectory(1.0, StopReason.SUCCESS),
            trajectory(9.0, StopReason.ENV_ERROR),
            trajectory(0.0, StopReason.MAX_TURNS),
            Trajectory(task=TASK, turns=(), stop_reason=StopReason.TIMEOUT, success=False),
        ),
    )
    samples = samples_from_group(group)
    assert [s.advantage for s in samples] == pytest.approx([2**-0.5, -(2**-0.5)], abs=1e-5)
    assert samples[0].token_ids == (1, 17, 4, 21, 2)
    assert samples[0].action_mask == (False, False, False, True, True)
    assert samples[0].behavior_logprobs == (0.0, 0.0, 0.0, -0.1, -0.2)


def test_the_batch_shifts_by_one_and_pads_on_the_right() -> None:
    batch = Batch.from_samples([TWO_TURNS, sample(3, advantage=-1.0)], pad_id=99)
    assert batch.input_ids_BT.tolist() == [[1, 17, 4, 21, 2, 9, 4, 22, 23], [0, 1] + [99] * 7]
    assert batch.target_ids_BT.tolist() == [[17, 4, 21, 2, 9, 4, 22, 23, 2], [1, 2] + [99] * 7]
    assert batch.action_mask_BT.tolist()[0] == [False, False, True, True, False, False, True, True, True]
    assert batch.action_mask_BT.tolist()[1] == [True, True] + [False] * 7
    assert batch.turn_ids_BT.tolist() == [[-1, -1, 0, 0, -1, -1, 1, 1, 1], [0, 0] + [-1] * 7]
    assert batch.behavior_logprobs_BT[0].tolist() == pytest.approx([0, 0, -0.1, -0.2, 0, 0, -0.3, -0.4, -0.5])
    assert batch.advantage_B.tolist() == [0.5, -1.0]


def test_micro_batches_keep_to_the_token_budget_and_use_every_sample_once() -> None:
    lengths = [9, 2, 5, 30, 5, 8, 2]
    chunks = micro_batches([sample(n) for n in lengths], max_tokens=20)
    assert [[lengths[i] for i in chunk] for chunk in chunks] == [[30], [9, 8], [5, 5, 2, 2]]
    assert sorted(i for chunk in chunks for i in chunk) == list(range(7))


def test_minibatches_use_every_sample_once_in_an_order_of_the_generator() -> None:
    first = minibatches(10, 4, random.Random(0))
    assert sorted(len(part) for part in first) == [2, 2, 3, 3]
    assert sorted(i for part in first for i in part) == list(range(10))
    assert minibatches(10, 4, random.Random(0)) == first
    assert minibatches(10, 4, random.Random(1)) != first
    assert [len(part) for part in minibatches(2, 4, random.Random(0))] == [1, 1]
