"""The shares of time, by hand."""

import pytest

from agent_rl.commands.compare.times import TIMES, mean_times, seconds_of_step
from agent_rl.training.groups import PlayedGroups
from agent_rl.training.metrics import StepSeconds, step_metrics
from rollouts.workers.usage import Usage
from tests.builders.episodes import group, trajectory, turn


def line(seconds: float, **shares: float) -> dict[str, float]:
    """A line whose metrics of time are 0, but for the named ones."""
    zeros = dict.fromkeys((metric.key for metric in TIMES), 0.0)
    return {**zeros, "time/seconds": seconds, **{f"time/{k}": v for k, v in shares.items()}}


def test_shares_are_means_over_time_and_then_over_runs() -> None:
    one = [line(30.0, policy_share=1.0), line(10.0, learner_share=0.6, sync_share=0.4)]
    other = [line(1.0, policy_share=0.25, evaluation_share=0.75, tokens_per_second=40.0)]
    means = mean_times([one, other])
    assert {name: value for name, value in means.items() if value} == pytest.approx(
        {
            "policy": (30 / 40 + 0.25) / 2,
            "learner": 0.6 * 10 / 40 / 2,
            "sync": 0.4 * 10 / 40 / 2,
            "evaluation": 0.75 / 2,
            "tokens/s": 40 / 2,
        }
    )
    assert sum(list(means.values())[:9]) == pytest.approx(1.0)
    assert list(means) == [metric.name for metric in TIMES]


def test_a_run_of_an_earlier_version_leaves_no_shares() -> None:
    whole, old = line(2.0, policy_share=1.0), {"time/seconds": 2.0}
    assert mean_times([[whole]])
    assert mean_times([[whole], [old]]) == mean_times([[whole, old]]) == {}
    assert mean_times([[line(0.0)]]) == {}


def test_a_checkpoint_and_an_evaluation_are_not_of_the_step() -> None:
    assert seconds_of_step(line(8.0, checkpoint_share=0.25, evaluation_share=0.5)) == 2.0
    assert seconds_of_step({"time/seconds": 8.0}) == 8.0


def test_training_writes_the_keys_and_the_columns_have_names_of_their_own() -> None:
    played = group(trajectory(turn()))
    counts = PlayedGroups(played=[played], kept=[played])
    metrics = step_metrics(counts, {}, StepSeconds(rollout=1.0), Usage())
    assert {metric.key for metric in TIMES} <= set(metrics)
    assert len({metric.name for metric in TIMES}) == len({m.key for m in TIMES}) == len(TIMES)
