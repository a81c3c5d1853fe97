"""The metrics of a rollout step, by hand."""

import pytest

from agent_rl.training.groups import PlayedGroups
from agent_rl.training.metrics import StepSeconds, step_metrics
from rollouts import StopReason
from tests.builders.episodes import group, trajectory, turn

LOST = StopReason.MAX_TURNS


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
    seconds = StepSeconds(rollout=1.0, learner=2.0, sync=1.0)
    assert step_metrics(groups, {"loss": 0.5}, seconds) == {
        "rollout/success": pytest.approx(1 / 3),
        "rollout/return": pytest.approx(1 / 3),
        "rollout/turns": 2.0,
        "rollout/invalid_actions": pytest.approx(1 / 6),
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
        "time/rollout_share": 0.25,
        "time/learner_share": 0.5,
        "time/sync_share": 0.25,
    }
