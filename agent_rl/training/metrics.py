"""The metrics of a rollout step: a line of `train/metrics.jsonl`, see docs/metrics.md."""

from dataclasses import asdict, dataclass
from statistics import fmean

from agent_rl.objective.advantages import all_equal
from agent_rl.training.groups import PlayedGroups


@dataclass(frozen=True, kw_only=True)
class StepSeconds:
    """The seconds of the parts of one rollout step."""

    rollout: float
    """Playing the groups."""
    learner: float
    """The update."""
    sync: float
    """Loading the new weights into the serving engine."""

    @property
    def total(self) -> float:
        """The whole step."""
        return self.rollout + self.learner + self.sync


def step_metrics(
    groups: PlayedGroups, learner_metrics: dict[str, float], seconds: StepSeconds
) -> dict[str, float]:
    """The metrics of one rollout step.

    Args:
        groups: must have an episode that may train. `rollout/` counts dropped groups too.
        learner_metrics: of the update; they get the prefix `learner/`.
        seconds: shares are of their total.
    """
    played = groups.played
    every_episode = [episode for group in played for episode in group.trajectories]
    episodes = [episode for episode in every_episode if episode.trains]
    turns = sum(len(episode.turns) for episode in episodes)
    constant = sum(
        all_equal([t.episode_return for t in group.trajectories if t.trains]) for group in played
    )
    metrics = {
        "rollout/success": fmean(episode.success for episode in episodes),
        "rollout/return": fmean(episode.episode_return for episode in episodes),
        "rollout/turns": turns / len(episodes),
        "rollout/invalid_actions": sum(e.invalid_actions for e in episodes) / max(turns, 1),
        "rollout/episodes": len(episodes),
        "rollout/failed_episodes": len(every_episode) - len(episodes),
    }
    for name, count in groups.counts().items():
        metrics[f"rollout/{name}"] = count
    # Equal returns give every advantage 0.
    metrics["rollout/groups_without_signal"] = constant / len(played)
    for name, value in learner_metrics.items():
        metrics[f"learner/{name}"] = value
    metrics |= {
        "time/seconds": seconds.total,
        "time/tokens_per_second": sum(len(e.token_ids) for e in episodes) / seconds.total,
        "time/env_seconds": sum(e.env_seconds for e in episodes),
        "time/policy_seconds": sum(e.policy_seconds for e in episodes),
    }
    for name, value in asdict(seconds).items():
        metrics[f"time/{name}_share"] = value / seconds.total
    return metrics
