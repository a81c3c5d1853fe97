"""What a tracker is told, and the interface that each package is adapted to. Light to import."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Cell = str | float | None
"""A value in a table."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """A stage of a run, as a tracker knows it: a run of its own."""

    project: str
    """The project that it is shown in."""
    name: str
    """Its name for people; others may have the same."""
    group: str
    """The name of the whole run, whose stages belong together."""
    stage: str
    """`sft` or `train`."""
    config: dict[str, Any]
    """The resolved config by dotted keys."""
    folder: Path
    """Where a package may keep files."""
    known_as: str = ""
    """The id that the tracker gave it earlier; empty for a new run."""
    driver: int = 0
    """The process that trains, whose use of the machine a tracker may show."""
    finish_seconds: float = 30.0
    """How long `Tracker.finish` may wait for its server."""


@dataclass(frozen=True, kw_only=True)
class TrackedTable:
    """A table of a rollout step."""

    name: str
    """`evaluation` or `episodes`."""
    head: tuple[str, ...]
    """The columns' names."""
    rows: list[tuple[Cell, ...]]
    """The rows; all have one length."""


class Tracker(Protocol):
    """Shows one run. Any call may raise any error, or take forever."""

    run_id: str
    """The id that opens the run again."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step. Steps come in order, each once."""

    def table(self, step: int, table: TrackedTable) -> None:
        """Take a table; `step` is at least that of the newest metrics."""

    def finish(self, *, complete: bool) -> None:
        """Bring all to the server, and end the run.

        Args:
            complete: whether the stage was done to its end.
        """
