import dataclasses
from typing import Any

import pytest

from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.throughput import Throughput, Work
from tests.builders.tiny_learner import (
    MakeModel,
    learner_of,
    make_tiny_experts,
)


def pair(second: int) -> list[TrainingSample]:
    """Two episodes of 4 positions each, which begin alike."""
    return [
        TrainingSample(
            token_ids=(1, 5, 6, last, 8),
            action_mask=(False, False, False, True, True),
            behavior_logprobs=(0.0, 0.0, 0.0, -1.0, -1.0),
            advantages=(advantage,),
        )
        for last, advantage in ((7, 1.0), (second, -1.0))
    ]


@pytest.mark.parametrize(
    ("values", "second", "expected"),
    [
        # 1 5 6 7 and 9 behind the 6: 5 of 8 positions; with the same token, 4.
        ({"optimizer_steps": 1}, 9, 3 / 8),
        ({"optimizer_steps": 1}, 7, 4 / 8),
        ({"optimizer_steps": 1, "micro_batch_tokens": 4}, 9, 0.0),
        ({"optimizer_steps": 1, "share_prefixes": False}, 9, 0.0),
        # The old log-probs take both together, 5 positions, and the two steps 4 each.
        ({"optimizer_steps": 2}, 9, 3 / 16),
        ({"optimizer_steps": 2, "share_prefixes": False}, 9, 0.0),
    ],
)
def test_the_share_of_shared_prefixes_by_hand(
    values: dict[str, Any], second: int, expected: float, tiny_model: MakeModel
) -> None:
    assert learner_of(tiny_model(), **values).update(pair(second))[
        "shared_prefixes"
    ] == pytest.approx(expected)


def test_nothing_is_shared_if_nothing_goes_through_the_model(tiny_model: MakeModel) -> None:
    samples = [dataclasses.replace(sample, advantages=(0.0,)) for sample in pair(9)]
    assert learner_of(tiny_model()).update(samples)["shared_prefixes"] == 0.0


def test_work_is_counted_by_hand(tiny_model: MakeModel) -> None:
    learner = learner_of(tiny_model())
    throughput = Throughput(learner._scorer, learner.device, "float32")
    batch = learner._passes.batch(pair(9))
    throughput.count(batch, passes=1)
    throughput.count(batch, passes=3)
    # A layer has 16 x 16 for queries and output, 8 x 16 for keys and values (one head of two), and
    # 3 x 16 x 24 for its MLP; there are 2 layers. The head has 16 x 32.
    decoder = 2 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 16 * 24)
    # 5 positions; the rows are 7, 8, 9 and another 8, as the last two have different beginnings.
    once = 2.0 * (5 * decoder + 4 * 16 * 32)
    assert throughput.work == Work(operations=4 * once, positions=10, tokens=16)
    metrics = throughput.metrics(20, [throughput.work, Work()])
    assert metrics["tokens"] == 20.0
    assert metrics["shared_prefixes"] == pytest.approx(6 / 16)
    assert metrics["tokens_per_second"] == pytest.approx(20.0 / metrics["seconds"])


def test_of_experts_only_the_chosen_ones_are_work() -> None:
    learner = learner_of(make_tiny_experts(experts=5, chosen=2))
    throughput = Throughput(learner._scorer, learner.device, "float32")
    throughput.count(learner._passes.batch(pair(9)), passes=1)
    # As above, with a router of 5 x 16, and two experts in place of the MLP.
    decoder = 2 * (2 * 16 * 16 + 2 * 8 * 16 + 5 * 16 + 2 * 3 * 16 * 24)
    assert throughput.work.operations == 2.0 * (5 * decoder + 4 * 16 * 32)
