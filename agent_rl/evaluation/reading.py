"""Whether a policy reads: how often it goes for what no text of the episode has told it of.

A policy that knows rooms by heart goes to a drawer that this room does not have. The environment
reads the commands and the texts (`TextEnv.object_named`); for most environments nobody can.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from envs.text_env import ReadObject
from rollouts import Trajectory


@dataclass(frozen=True, kw_only=True)
class ReadingScore:
    """Shares of a split's commands, over all scored episodes; None if there is no such command."""

    unlisted_furniture: float | None
    """Of the commands that go to furniture, those to furniture that the texts do not list."""
    unseen_things: float | None
    """Of the commands that take a thing, those for a thing that no text before has named."""
    repeated_refusals: float | None
    """Of the invalid commands, those that repeat the invalid one right before them."""

    @classmethod
    def of(cls, episodes: Iterable[Trajectory], read: ReadObject) -> "ReadingScore":
        """Read the commands of episodes with the environment's reader."""
        furniture: list[bool] = []
        things: list[bool] = []
        invalid = repeated = 0
        for episode in episodes:
            invalid += episode.invalid_actions
            repeated += episode.repeated_refusals
            texts: list[str] = []
            for turn in episode.actions:
                texts.append(turn.observation)
                named = read(turn.action.said, texts)
                if named is not None:
                    (furniture if named.is_furniture else things).append(not named.is_known)
        return cls(
            unlisted_furniture=_share(sum(furniture), len(furniture)),
            unseen_things=_share(sum(things), len(things)),
            repeated_refusals=_share(repeated, invalid),
        )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
