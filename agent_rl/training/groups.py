"""The groups of one rollout step: playing them, and choosing those that train.

Choosing by outcome is dynamic sampling (DAPO, arXiv 2503.14476): groups without a training signal
are dropped, and other tasks are played in their place.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from agent_rl.config import TrainSettings
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import TrajectoryGroup
from rollouts.workers.failed_tasks import FailedTasks

GroupOutcome = Literal["all_succeed", "all_fail", "mixed", "none_trains"]
"""How the episodes of a group ended; episodes that may not train do not count."""
PlayGroups = Callable[[list[Task], int], list[TrajectoryGroup]]
"""Plays a group per task; the number is how many groups this rollout step has played before."""


@dataclass(frozen=True, kw_only=True)
class PlayedGroups:
    """The groups of one rollout step."""

    played: list[TrajectoryGroup]
    """All groups."""
    kept: list[TrajectoryGroup]
    """Those that train."""

    def counts(self) -> dict[str, float]:
        """The numbers of groups: all, dropped, and by outcome."""
        outcomes = Counter(outcome(group) for group in self.played)
        counts: dict[str, float] = {
            "groups": len(self.played),
            "groups_dropped": len(self.played) - len(self.kept),
        }
        for name in get_args(GroupOutcome):
            counts[f"groups_{name}"] = outcomes[name]
        return counts


def play_groups(
    sampler: TaskSampler, play: PlayGroups, settings: TrainSettings, failed: FailedTasks
) -> PlayedGroups:
    """Play `tasks_per_step` groups; drop those with an outcome in `drop_groups` and play others.

    At most `max_extra_groups` more are played, so fewer than `tasks_per_step` groups may be kept.
    If all would be dropped, none is: an update without signal is better than no rollout step.
    Groups in which no episode may train are never kept. If the tasks of all groups could not be
    played, others are played in their place, as long as `failed` allows.

    Raises:
        ValueError: more tasks failed than may (see `FailedTasks.check`).
    """
    played: list[TrajectoryGroup] = []
    usable: list[TrajectoryGroup] = []
    kept: list[TrajectoryGroup] = []
    limit = settings.tasks_per_step + settings.max_extra_groups
    # For example with 8 tasks per step and 10 extra groups: 8 are played and 3 kept, 5 more are
    # played and 2 kept, 3 more, and so on until 8 are kept or 18 are played.
    while len(kept) < settings.tasks_per_step and (len(played) < limit or all_failed(played)):
        count = settings.tasks_per_step - len(kept)
        if len(played) < limit:
            count = min(count, limit - len(played))
        groups = play(sampler.next(count), len(played))
        failed.add([episode for group in groups for episode in group.trajectories])
        failed.check()
        played += groups
        usable += [group for group in groups if outcome(group) != "none_trains"]
        kept = [group for group in usable if outcome(group) not in settings.drop_groups]
    return PlayedGroups(played=played, kept=kept or usable)


def all_failed(groups: Sequence[TrajectoryGroup]) -> bool:
    """Whether no task of the groups could be played."""
    return all(episode.unplayable for group in groups for episode in group.trajectories)


def outcome(group: TrajectoryGroup) -> GroupOutcome:
    """How the episodes of a group ended, of those that may train."""
    successes = {t.success for t in group.trajectories if t.trains}
    if not successes:
        return "none_trains"
    if len(successes) == 2:
        return "mixed"
    return "all_succeed" if True in successes else "all_fail"
