"""What a person sees on the terminal while something runs: progress bars, a row per step, episodes
turn by turn.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rollouts import Trajectory

console = Console(highlight=False, soft_wrap=True, emoji=False)

_LABEL_WIDTH = 13

Advance = Callable[[str], None]
"""Say that one more piece is done, with a word on it (shown behind the bar)."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """A progress bar over `total` pieces that leaves nothing behind; silent where the output is no
    terminal.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        bar = bars.add_task(label, total=total, note="")
        yield lambda note: bars.update(bar, advance=1, note=note)


@contextmanager
def held_stderr() -> Iterator[None]:
    """Keep what libraries write to the standard error to themselves; it is shown if this ends in a
    surprise.
    """
    with tempfile.TemporaryFile() as held:
        real = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except ValueError:  # the user's to mend, by its own message
            raise
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction in percent, without the sign: `percent(0.625)` is `62.5`."""
    return f"{100 * fraction:.{digits}f}"


def points(difference: float) -> str:
    """Write a difference of fractions in percentage points: `points(0.05)` is `+5.0`."""
    return f"{100 * difference:+.1f}"


def interval(ends: tuple[float, float], *, digits: int = 1, between: str = "-") -> str:
    """Write both ends in percent: `interval((0.5, 0.75))` is `50.0-75.0`."""
    low, high = ends
    return f"{percent(low, digits)}{between}{percent(high, digits)}"


def points_interval(ends: tuple[float, float]) -> str:
    """Write both ends in percentage points: `points_interval((-0.05, 0.02))` is `-5.0 to +2.0`."""
    low, high = ends
    return f"{points(low)} to {points(high)}"


def say(text: str) -> None:
    """One plain line; square brackets are no markup."""
    console.print(escape(text))


@dataclass(frozen=True)
class Column:
    """A metric's column: where its number is found, what stands above it, how it is written."""

    metric: str
    head: str
    form: str

    @property
    def width(self) -> int:
        return max(len(self.head), 6) + 2


class StepRows:
    """A table that grows by a row per step; the header comes with the first row."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._headed = False

    def row(self, label: str, metrics: dict[str, float]) -> None:
        if not self._headed:
            heads = "".join(f"{column.head:>{column.width}}" for column in self._columns)
            console.print(" " * _LABEL_WIDTH + heads, style="dim")
            self._headed = True
        cells = "".join(f"{format(metrics[c.metric], c.form):>{c.width}}" for c in self._columns)
        say(f"{label:<{_LABEL_WIDTH}}" + cells)


def show_episode(trajectory: Trajectory, title: str) -> None:
    """Print an episode turn by turn: what the policy saw, what it did, what it got."""
    console.rule(escape(title), align="left")
    for number, turn in enumerate(trajectory.turns, start=1):
        show_observation(turn.observation)
        command = turn.action.command if turn.action.command is not None else turn.action.text
        console.print(f"{number:>3} > {escape(command)}", style="bold", end="")
        show_outcome(turn.reward, admissible=turn.admissible)
    show_observation(trajectory.final_observation)
    show_ending(trajectory)


def show_observation(text: str) -> None:
    """Print what the environment says, indented, without its blank lines."""
    for line in text.strip().splitlines():
        if line:
            console.print(f"    {escape(line)}", style="dim")


def show_outcome(reward: float, *, admissible: bool) -> None:
    """Print, behind a command, what it was worth."""
    mark = "" if admissible else "   (not admissible)"
    worth = f"   reward {reward:+.2f}" if reward else ""
    console.print(f"{mark}{worth}", style="red" if mark else "green")


def show_commands(commands: Sequence[str]) -> None:
    """Print commands by number, from 1, in as many columns as there is room for."""
    numbered = [
        f"[dim]{number:>3}[/] {escape(command)}" for number, command in enumerate(commands, start=1)
    ]
    console.print(Columns(numbered, padding=(0, 2), column_first=True))


def show_ending(trajectory: Trajectory) -> None:
    """Print how an episode ended, and what went wrong where something did."""
    turns = len(trajectory.turns)
    say(
        f"  = {trajectory.stop_reason.value}, {turns} turns, return {trajectory.episode_return:+.2f}"
    )
    if trajectory.error:
        say(f"    {trajectory.error}")
