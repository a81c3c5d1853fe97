"""Which groups of a rollout step train: those that teach little can be dropped, and others played
in their place.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from agent_rl.config import TrainSettings
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import TrajectoryGroup

Outcome = Literal["all_succeed", "all_fail", "mixed", "none_trains"]
Play = Callable[[list[Task], int], list[TrajectoryGroup]]
"""Play a group per task; the number says how many groups of this rollout step were played before."""


@dataclass(frozen=True, kw_only=True)
class StepGroups:
    """The groups of one rollout step: all that were played, and those of them that train."""

    played: list[TrajectoryGroup]
    kept: list[TrajectoryGroup]

    def counts(self) -> dict[str, float]:
        """How many were played and dropped, and how they came out."""
        outcomes = Counter(outcome(group) for group in self.played)
        return {
            "groups": len(self.played),
            "groups_dropped": len(self.played) - len(self.kept),
            **{f"groups_{name}": outcomes[name] for name in get_args(Outcome)},
        }


def collect_groups(sampler: TaskSampler, play: Play, settings: TrainSettings) -> StepGroups:
    """Play `tasks_per_step` groups, drop those with an outcome in `drop_groups`, and play others
    for them.

    At most `max_extra_groups` more are played. Where all would be dropped, none is: the step is
    taken all the same. Groups in which no episode trains are never kept.
    """
    played: list[TrajectoryGroup] = []
    usable: list[TrajectoryGroup] = []
    kept: list[TrajectoryGroup] = []
    most = settings.tasks_per_step + settings.max_extra_groups
    while len(kept) < settings.tasks_per_step and len(played) < most:
        count = min(settings.tasks_per_step - len(kept), most - len(played))
        groups = play(sampler.next(count), len(played))
        played += groups
        usable += [group for group in groups if outcome(group) != "none_trains"]
        kept = [group for group in usable if outcome(group) not in settings.drop_groups]
    return StepGroups(played=played, kept=kept or usable)


def outcome(group: TrajectoryGroup) -> Outcome:
    """How the episodes came out that may train."""
    successes = {t.success for t in group.trajectories if t.stop_reason.trains}
    if len(successes) != 1:
        return "mixed" if successes else "none_trains"
    return "all_succeed" if True in successes else "all_fail"
