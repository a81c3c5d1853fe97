"""The names of a run's training episodes: `12/3/5` is rollout step 12, group 3, member 5.

All three are counted from 1. The groups of a step are in the order in which their tasks were drawn,
dropped ones among them, and the members of a group in the order of their seeds. Light to import.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agent_rl.config import ConfigError
from rollouts import Trajectory, TrajectoryGroup

_FORM = re.compile(r"(\d+)/(\d+)/(\d+)")


@dataclass(frozen=True, order=True)
class EpisodeId:
    """The name of one training episode."""

    step: int
    """The rollout step, from 1."""
    group: int
    """The group in the step, from 1."""
    member: int
    """The episode in the group, from 1."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `12/3/5`.

        Raises:
            ConfigError: the text has another form.
        """
        matched = _FORM.fullmatch(text.strip())
        if matched is None or "0" in matched.groups():
            raise ConfigError(
                f"episode {text!r}: write STEP/GROUP/MEMBER, each counted from 1, such as 12/3/5"
            )
        return cls(*map(int, matched.groups()))

    def __str__(self) -> str:
        return f"{self.step}/{self.group}/{self.member}"


def ids_of_groups(step: int, groups: Sequence[TrajectoryGroup]) -> list[EpisodeId]:
    """Return the ids of a step's episodes, group after group."""
    ids = []
    for group, played in enumerate(groups, start=1):
        for member in range(1, len(played.trajectories) + 1):
            ids.append(EpisodeId(step, group, member))
    return ids


def ids_by_task(step: int, episodes: Sequence[Trajectory]) -> list[EpisodeId]:
    """Return the ids of a step's episodes if nothing but their order is known.

    Files of earlier versions name none. Neighbours with one task are a group there, so two groups
    of one task in a row would count as one.
    """
    ids: list[EpisodeId] = []
    for place, episode in enumerate(episodes):
        if place and episode.task == episodes[place - 1].task:
            ids.append(EpisodeId(step, ids[-1].group, ids[-1].member + 1))
        else:
            ids.append(EpisodeId(step, ids[-1].group + 1 if ids else 1, 1))
    return ids
