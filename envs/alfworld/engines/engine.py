"""What an engine that steps ALFWorld's games does: the seam between the environment and the two
engines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from envs.alfworld.names import MARKS

EXPERT_FACTS = ("holds", "inreceptacle", *MARKS)
"""The predicates that the handcoded expert looks at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What there is after a reset or a step. `text` is the engine's, less the white space around
    it.

    `reward` is 1 where the task is done and else 0; `done`: the episode is over. After a reset they
    are 0 and False. `facts`: the true facts of `EXPERT_FACTS`, sorted, as `predicate name name`;
    empty unless they were asked for.
    """

    text: str
    commands: Sequence[str]
    won: bool
    reward: float = 0.0
    done: bool = False
    facts: tuple[str, ...] = ()


class Engine(Protocol):
    """Plays one game at a time. With `facts` (a constructor's argument), frames hold the facts for
    the expert.
    """

    def reset(self, path: Path) -> Frame:
        """Start the game in the file `path`, which is loaded unless it is the last one played.

        Raises:
            ValueError: the file cannot be played; the message names it.
        """

    def step(self, command: str) -> Frame:
        """Send one command."""

    def clone(self) -> Self:
        """A second engine in the same state. Raises NotImplementedError where there is no copying."""

    def close(self) -> None:
        """Give back what the engine holds; it may be reset again."""
