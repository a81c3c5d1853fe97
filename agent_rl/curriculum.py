"""Which groups of a rollout step train: those that teach nothing can be dropped, and others played in their place."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from agent_rl.config import TrainSettings
from agent_rl.task_sampler import TaskSampler
from envs import Task
from rollouts import TrajectoryGroup

Outcome = Literal["all_succeed", "all_fail", "mixed"]
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
            **{f"groups_{name}": outcomes[name] for name in ("all_succeed", "all_fail", "mixed")},
        }


def collect_groups(sampler: TaskSampler, play: Play, settings: TrainSettings) -> StepGroups:
    """Play `tasks_per_step` groups, drop those with an outcome in `drop_groups`, and play others for them.

    At most `max_extra_groups` more are played. Where all were dropped, all are kept: their advantages are 0, and the
    step is taken all the same.
    """
    played: list[TrajectoryGroup] = []
    kept: list[TrajectoryGroup] = []
    most = settings.tasks_per_step + settings.max_extra_groups
    while len(kept) < settings.tasks_per_step and len(played) < most:
        count = min(settings.tasks_per_step - len(kept), most - len(played))
        groups = play(sampler.next(count), len(played))
        played += groups
        kept += [group for group in groups if outcome(group) not in settings.drop_groups]
    return StepGroups(played=played, kept=kept or played)


def outcome(group: TrajectoryGroup) -> Outcome:
    """How the episodes came out that may train; `all_fail` where there is none."""
    successes = {t.success for t in group.trajectories if t.stop_reason.trains}
    if len(successes) > 1:
        return "mixed"
    return "all_succeed" if successes == {True} else "all_fail"
