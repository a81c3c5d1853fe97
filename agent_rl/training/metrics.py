"""The metrics of a rollout step: a line of `train/metrics.jsonl`, see docs/metrics.md."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean

from agent_rl.learner.samples import turn_scores
from agent_rl.objective.advantages import all_equal
from agent_rl.training.groups import PlayedGroups
from rollouts import Trajectory, TrajectoryGroup
from rollouts.workers.usage import Usage


@dataclass(kw_only=True)
class StepSeconds:
    """The wall time from one line of metrics to the next, divided into parts.

    A checkpoint and an evaluation come after the line of their step, so they count in the next one.
    """

    rollout: float = 0.0
    """The wait for the episodes of the step."""
    slowest: float = 0.0
    """Of `rollout`: no episode was left to begin, and some place for one was free."""
    learner: float = 0.0
    """The update."""
    sync: float = 0.0
    """Loading the new weights into the serving engine."""
    files: float = 0.0
    """Waiting for episodes to be written, which a thread does meanwhile."""
    checkpoint: float = 0.0
    """Writing a checkpoint."""
    evaluation: float = 0.0
    """Evaluating the policy."""
    other: float = 0.0
    """All else, such as advantages."""

    @property
    def total(self) -> float:
        """The whole time."""
        return float(sum(asdict(self).values())) - self.slowest


class StepClock:
    """Measures `StepSeconds`."""

    def __init__(self) -> None:
        """Start with the first line's time."""
        self._began = time.perf_counter()
        self.seconds = StepSeconds()
        """The parts since the last `lap`."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block in a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - began
            setattr(self.seconds, name, getattr(self.seconds, name) + passed)

    def lap(self) -> StepSeconds:
        """Return the parts since the last call, which add up to all time, and begin again."""
        now = time.perf_counter()
        seconds, self.seconds = self.seconds, StepSeconds()
        # Never below 0: the parts are measured within this time.
        seconds.other += max(now - self._began - seconds.total, 0.0)
        self._began = now
        return seconds


def step_metrics(
    groups: PlayedGroups,
    learner_metrics: dict[str, float],
    seconds: StepSeconds,
    usage: Usage,
    *,
    invalid_turn_penalty: float = 0.0,
) -> dict[str, float]:
    """The metrics of one rollout step.

    Args:
        groups: must have an episode that may train. `rollout/` counts dropped groups too.
        learner_metrics: of the update; they get the prefix `learner/`.
        seconds: the time since the last line; shares are of their total.
        usage: of the engines and the workers' places in that time.
        invalid_turn_penalty: what an invalid action takes from the score of its own turn.
    """
    played = groups.played
    every_episode = [episode for group in played for episode in group.trajectories]
    episodes = [episode for episode in every_episode if episode.trains]
    turns = sum(len(episode.actions) for episode in episodes)
    constant = sum(_scores_are_equal(group, invalid_turn_penalty) for group in played)
    metrics = {
        "rollout/success": fmean(episode.success for episode in episodes),
        "rollout/return": fmean(episode.episode_return for episode in episodes),
        "rollout/turns": turns / len(episodes),
        "rollout/invalid_actions": sum(e.invalid_actions for e in episodes) / max(turns, 1),
        "rollout/repeated_refusals": sum(e.repeated_refusals for e in episodes) / max(turns, 1),
        "rollout/truncated_actions": sum(e.truncated_actions for e in episodes) / max(turns, 1),
        "rollout/cut_thoughts": sum(e.cut_thoughts for e in episodes) / max(turns, 1),
        "rollout/episodes": len(episodes),
        "rollout/failed_episodes": len(every_episode) - len(episodes),
    }
    for name, count in groups.counts().items():
        metrics[f"rollout/{name}"] = count
    # Equal scores give every advantage 0 (with `turn_groups`, that of every episode).
    metrics["rollout/groups_without_signal"] = constant / len(played)
    for name, value in learner_metrics.items():
        metrics[f"learner/{name}"] = value
    metrics |= {
        "time/seconds": seconds.total,
        "time/tokens_per_second": sum(len(e.token_ids) for e in episodes) / seconds.total,
        "time/env_seconds": sum(e.env_seconds for e in episodes),
        "time/policy_seconds": sum(e.policy_seconds for e in episodes),
    }
    for name, part in _parts(seconds, every_episode).items():
        metrics[f"time/{name}_share"] = part / seconds.total
    metrics["time/rollout_share"] = seconds.rollout / seconds.total
    metrics["time/learner_idle_share"] = 1.0 - seconds.learner / seconds.total
    for name, value in usage.metrics().items():
        metrics[f"engine/{name}"] = value
    return metrics


def _scores_are_equal(group: TrajectoryGroup, invalid_turn_penalty: float) -> bool:
    """Whether no advantage tells episodes or turns apart."""
    scores = [turn_scores(t, invalid_turn_penalty) for t in group.trajectories if t.trains]
    return len(scores) < 2 or all_equal([score for of_turns in scores for score in of_turns])


def _parts(seconds: StepSeconds, episodes: Sequence[Trajectory]) -> dict[str, float]:
    """The parts of all time, with the wait for episodes divided by what they waited for."""
    parts = asdict(seconds)
    waited = parts.pop("rollout") - seconds.slowest
    # Many episodes are played at the same time, so the wait is divided as their sums are.
    env = sum(episode.env_seconds for episode in episodes)
    policy = sum(episode.policy_seconds for episode in episodes)
    env_part = waited * env / (env + policy) if env + policy else 0.0
    return {"policy": waited - env_part, "env": env_part, **parts}
