"""The metrics of a rollout step, by hand."""

import time

import pytest

from agent_rl.training.groups import PlayedGroups
from agent_rl.training.metrics import StepClock, StepSeconds, step_metrics
from rollouts import FinishReason, StopReason
from rollouts.serving.statistics import EngineStatistics
from rollouts.workers.usage import PlaceSeconds, Usage
from tests.builders.episodes import group, trajectory, turn

LOST = StopReason.MAX_TURNS
SECONDS = StepSeconds(rollout=1.5, slowest=0.5, learner=1.0, sync=0.25, files=0.25, other=1.0)
USAGE = Usage(
    engines=EngineStatistics(
        seconds=4.0,
        busy_seconds=1.0,
        sampled_tokens=12,
        prompt_tokens=6,
        cached_tokens=3,
        requests=6,
        queue_seconds=3.0,
    ),
    places=PlaceSeconds(total=16.0, played=4.0, slowest=0.5),
)


def test_metrics_by_hand() -> None:
    """Two groups of two. The first is won once, in 1 turn of reward 1, and lost once, in 3 turns of
    which one is invalid. Of the second one episode is lost in 2 turns, and the other broke.
    """
    won = trajectory(turn(reward=1.0), env_seconds=0.5, policy_seconds=2.0)
    lost = trajectory(turn(), turn(admissible=False), turn(), stop_reason=LOST, env_seconds=0.25)
    lost_too = trajectory(turn(), turn(), stop_reason=LOST)
    broken = trajectory(turn(), stop_reason=StopReason.ENV_ERROR, error="it broke")
    mixed, failed = group(won, lost), group(lost_too, broken)
    groups = PlayedGroups(played=[mixed, failed], kept=[mixed])
    assert step_metrics(groups, {"loss": 0.5}, SECONDS, USAGE) == {
        "rollout/success": pytest.approx(1 / 3),
        "rollout/return": pytest.approx(1 / 3),
        "rollout/turns": 2.0,
        "rollout/invalid_actions": pytest.approx(1 / 6),
        "rollout/repeated_refusals": 0.0,
        "rollout/truncated_actions": 0.0,
        "rollout/cut_thoughts": 0.0,
        "rollout/episodes": 3,
        "rollout/failed_episodes": 1,
        "rollout/groups": 2,
        "rollout/groups_dropped": 1,
        "rollout/groups_all_succeed": 0,
        "rollout/groups_all_fail": 1,
        "rollout/groups_mixed": 1,
        "rollout/groups_none_trains": 0,
        # Of the second group both returns are 0, that of the broken episode too.
        "rollout/groups_without_signal": 0.5,
        "learner/loss": 0.5,
        "time/seconds": 4.0,
        # A turn has one token of prompt and two of the agent: 6 turns, 18 tokens, 4 seconds.
        "time/tokens_per_second": 4.5,
        "time/env_seconds": 0.75,
        "time/policy_seconds": 2.0,
        "time/rollout_share": 0.375,
        # Of the second that was not a wait for the slowest, 0.75 of 2.75 parts were environments'.
        "time/policy_share": pytest.approx(2.0 / 2.75 / 4.0),
        "time/env_share": pytest.approx(0.75 / 2.75 / 4.0),
        "time/slowest_share": 0.125,
        "time/learner_share": 0.25,
        "time/sync_share": 0.0625,
        "time/files_share": 0.0625,
        "time/checkpoint_share": 0.0,
        "time/evaluation_share": 0.0,
        "time/other_share": 0.25,
        "time/learner_idle_share": 0.75,
        "engine/idle_share": 0.75,
        "engine/sampled_tokens_per_second": 3.0,
        "engine/prefix_cache_hits": 0.5,
        "engine/queue_seconds": 0.5,
        "engine/preemptions": 0.0,
        "engine/places_used": 0.25,
    }


def test_the_parts_of_a_lap_are_all_of_its_time() -> None:
    clock = StepClock()
    began = time.perf_counter()
    for name in ("rollout", "learner", "rollout"):
        with clock.part(name):
            time.sleep(0.01)
    time.sleep(0.02)
    seconds = clock.lap()
    passed = time.perf_counter() - began
    assert seconds.rollout >= 0.02
    assert seconds.learner >= 0.01
    assert seconds.other >= 0.02
    assert seconds.total == pytest.approx(passed, abs=0.01)
    assert clock.lap().total < seconds.total, "the next lap begins anew"


def test_only_actions_are_turns() -> None:
    """An episode of four actions, of which two are invalid and alike, and two were cut off; a
    thought that was, and a summary.
    """
    cut = FinishReason.LENGTH
    episode = trajectory(
        turn(finish_reason=cut, kind="thought"),
        turn(finish_reason=cut, admissible=False),
        turn(kind="summary"),
        turn(finish_reason=cut, admissible=False),
        turn(),
        turn(),
    )
    groups = PlayedGroups(played=[group(episode)], kept=[group(episode)])
    usage = Usage(engines=EngineStatistics(), places=PlaceSeconds())
    metrics = step_metrics(groups, {}, StepSeconds(other=1.0), usage)
    shares = {
        "turns": 4.0,
        "invalid_actions": 0.5,
        "repeated_refusals": 0.25,
        "truncated_actions": 0.5,
        "cut_thoughts": 0.25,
    }
    assert {name: metrics[f"rollout/{name}"] for name in shares} == shares


def test_a_penalty_of_turns_is_a_signal_and_leaves_the_return() -> None:
    """Two groups, lost by all; in the first an episode has an invalid turn, and in the second its
    only episode that trains.
    """
    wrong = trajectory(turn(), turn(admissible=False), stop_reason=LOST)
    lost = trajectory(turn(), stop_reason=LOST)
    broken = trajectory(turn(), stop_reason=StopReason.ENV_ERROR, error="it broke")
    played = [group(wrong, lost), group(wrong, broken)]
    groups = PlayedGroups(played=played, kept=played)
    usage = Usage(engines=EngineStatistics(), places=PlaceSeconds())

    def without_signal(penalty: float) -> float:
        seconds = StepSeconds(other=1.0)
        metrics = step_metrics(groups, {}, seconds, usage, invalid_turn_penalty=penalty)
        assert metrics["rollout/return"] == 0.0
        return metrics["rollout/groups_without_signal"]

    assert (without_signal(0.0), without_signal(0.5)) == (1.0, 0.5)
