"""The groups of one rollout step: which ones they are, and which of them train.

Choosing by outcome is dynamic sampling (DAPO, arXiv 2503.14476): groups without a training signal
are dropped, and other tasks are played in their place.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from agent_rl.config import TrainSettings
from rollouts import TrajectoryGroup

GroupOutcome = Literal["all_succeed", "all_fail", "mixed", "none_trains"]
"""How the episodes of a group ended; episodes that may not train do not count."""


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


def step_length(groups: Iterable[TrajectoryGroup | None], settings: TrainSettings) -> int | None:
    """How many groups the next rollout step consists of; None if it needs more than `groups`.

    A step ends as soon as `tasks_per_step` of its groups are kept, or `max_extra_groups` more than
    that are in it. If no task of its groups could be played, it goes on with others. So with 8
    tasks per step and 10 extra groups it has between 8 and 18 groups.

    A group that is still played counts as one that is kept. If it is dropped later, the groups
    after it come into the same step or an earlier one, and never into a later one.

    Args:
        groups: from the first of the step on, in the order of their tasks; None is still played.
    """
    kept, playable = 0, False
    limit = settings.tasks_per_step + settings.max_extra_groups
    for length, group in enumerate(groups, 1):
        kept += group is None or is_kept(group, settings)
        playable = playable or group is None or not all_failed([group])
        if kept == settings.tasks_per_step or (length >= limit and playable):
            return length
    return None


def chosen_groups(played: list[TrajectoryGroup], settings: TrainSettings) -> PlayedGroups:
    """Choose the groups of a rollout step that train.

    Groups with an outcome in `drop_groups` do not. If all would be dropped, none is: an update
    without signal is better than no rollout step. Groups in which no episode may train are never
    kept.
    """
    usable = [group for group in played if outcome(group) != "none_trains"]
    kept = [group for group in usable if is_kept(group, settings)]
    return PlayedGroups(played=played, kept=kept or usable)


def is_kept(group: TrajectoryGroup, settings: TrainSettings) -> bool:
    """Whether a group may train, and is not dropped for its outcome."""
    return outcome(group) not in ("none_trains", *settings.drop_groups)


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
