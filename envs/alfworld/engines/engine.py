"""The interface of an engine, which steps ALFWorld's games for the environment."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from envs.alfworld.engines.game import Variation
from envs.alfworld.names import MARKS

EXPERT_FACTS = ("holds", "inreceptacle", *MARKS)
"""The predicates that the handcoded expert reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The engine's answer to a reset or a step."""

    text: str
    """The text to read, without white space around it."""
    commands: Sequence[str]
    """The admissible commands, sorted."""
    won: bool
    """Whether the goal is reached now."""
    reward: float = 0.0
    """1 at the step that wins, otherwise 0; 0 after a reset."""
    done: bool = False
    """Whether the episode is over; False after a reset."""
    facts: tuple[str, ...] = ()
    """The true facts of `EXPERT_FACTS`, sorted, as `predicate name name`.

    Empty unless the engine was made with `facts`.
    """


class Engine(Protocol):
    """Plays one game at a time.

    Its constructor takes `facts`: whether frames hold the facts for the handcoded expert.
    """

    def reset(self, path: Path, vary: Variation | None = None) -> Frame:
        """Start the game in the file `path`; loads it unless it was the last one played.

        Args:
            path: the game's file.
            vary: makes another problem of the one in the file (see `load_game`).

        Raises:
            ValueError: the file cannot be played, and the message names it; or the engine plays
                games only as their files have them, and there is a `vary`.
        """

    def step(self, command: str) -> Frame:
        """Send one command."""

    def clone(self) -> Self:
        """A second engine in the same state.

        Raises:
            NotImplementedError: the engine cannot be copied.
        """

    def close(self) -> None:
        """Release what the engine holds; it may be reset again."""
