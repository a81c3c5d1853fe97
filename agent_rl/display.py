"""Shows a run on the terminal: progress bars, a row of metrics per step, episodes turn by turn.

It also writes success rates and differences, for every table and page in the same way.

Environments, models and files may say anything. Control characters in it are shown (`visible`), not
sent: they could rewrite what is on the screen, or make the terminal do something. Both consoles see
to that, so print with them, or print `visible(text)`.
"""

import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.text import Text

from rollouts import Trajectory
from rollouts.rendering.visible import visible as visible


class _VisibleConsole(Console):
    """A console that sends no control characters but its own."""

    def render_str(self, text: str, **options: Any) -> Text:
        # Here too, and not in `render` alone: the width of a table's column is taken from this.
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            own = segment.control is not None
            yield segment if own else Segment(visible(segment.text), segment.style)


console = _VisibleConsole(highlight=False, soft_wrap=True, emoji=False)

_LABEL_WIDTH = 13
"""Characters of the first column in a table of steps."""

Advance = Callable[[str], None]
"""Report that one more piece is done, with a note to show behind the bar."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Show a progress bar over `total` pieces; it vanishes at the end.

    Without a terminal nothing is shown.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        bar = bars.add_task(label, total=total, note="")
        yield lambda note: bars.update(bar, advance=1, note=visible(note))


@contextmanager
def held_stderr() -> Iterator[None]:
    """Hold back what libraries write to the standard error; show it if an unexpected error comes.

    A `ValueError` is expected: its message tells the user what to change. File descriptor 2 is
    redirected, so the output of C libraries and child processes is held back too.
    """
    with tempfile.TemporaryFile() as held:
        real = os.dup(2)  # kept to restore it
        os.dup2(held.fileno(), 2)
        try:
            yield
        except ValueError:
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
    """Print one line as it is: square brackets are not markup."""
    console.print(escape(text))


@contextmanager
def kept_lines() -> Iterator[list[str]]:
    """Keep what a `with` block says and warns of, for another process to say.

    The list is filled at the end of the block.
    """
    lines: list[str] = []
    warnings = _Kept(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("agent_rl", "rollouts", "envs")]
    for logger in loggers:
        logger.addHandler(warnings)
    try:
        with console.capture() as said:
            yield lines
    finally:
        for logger in loggers:
            logger.removeHandler(warnings)
    lines += [*said.get().splitlines(), *warnings.lines]


class _Kept(logging.Handler):
    """Keeps the messages of a logger."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def say_error(text: str) -> None:
    """Print an error that a user can mend on the standard error: one message, nothing else."""
    _stderr().print(f"[bold red]error:[/] {escape(text)}")


def say_on_stderr(text: str) -> None:
    """Print a text on the standard error as it is: square brackets are not markup."""
    _stderr().print(escape(text))


def _stderr() -> Console:
    return _VisibleConsole(stderr=True, soft_wrap=True, highlight=False, emoji=False)


@dataclass(frozen=True)
class Column:
    """A column of a table of steps."""

    metric: str
    """The metric's key."""
    head: str
    """The heading."""
    form: str
    """The format of the number, such as `.1%`."""

    @property
    def width(self) -> int:
        """Characters of the column, with the space before it."""
        return max(len(self.head), 6) + 2


class StepRows:
    """A table that grows by a row per step. The headings come with the first row."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._headed = False

    def row(self, label: str, metrics: dict[str, float]) -> None:
        """Print the metrics of one step."""
        if not self._headed:
            heads = "".join(f"{column.head:>{column.width}}" for column in self._columns)
            console.print(" " * _LABEL_WIDTH + heads, style="dim")
            self._headed = True
        cells = "".join(f"{format(metrics[c.metric], c.form):>{c.width}}" for c in self._columns)
        say(f"{label:<{_LABEL_WIDTH}}" + cells)


def show_episode(trajectory: Trajectory, title: str) -> None:
    """Print an episode turn by turn: observation, command, reward."""
    console.rule(escape(title), align="left")
    numbers = itertools.count(1)
    for turn in trajectory.turns:
        # A thought is shown with its action, and a summary is no numbered turn.
        if turn.kind == "thought":
            continue
        show_observation(turn.observation)
        command = turn.action.command if turn.action.command is not None else turn.action.text
        number = next(numbers) if turn.kind == "action" else ""
        console.print(f"{number:>3} > {escape(command)}", style="bold", end="")
        show_outcome(turn.reward, admissible=turn.admissible)
    show_observation(trajectory.final_observation)
    show_ending(trajectory)


def show_observation(text: str) -> None:
    """Print an observation, indented and without blank lines."""
    for line in text.strip().splitlines():
        if line:
            console.print(f"    {escape(line)}", style="dim")


def show_outcome(reward: float, *, admissible: bool) -> None:
    """Print, behind a command, its reward and whether it was admissible."""
    mark = "" if admissible else "   (not admissible)"
    worth = f"   reward {reward:+.2f}" if reward else ""
    console.print(f"{mark}{worth}", style="red" if mark else "green")


def show_commands(commands: Sequence[str]) -> None:
    """Print commands with numbers from 1, in as many columns as fit."""
    numbered = [
        f"[dim]{number:>3}[/] {escape(command)}" for number, command in enumerate(commands, start=1)
    ]
    console.print(Columns(numbered, padding=(0, 2), column_first=True))


def show_ending(trajectory: Trajectory) -> None:
    """Print how an episode ended, and its error if it has one."""
    reason, turns = trajectory.stop_reason.value, len(trajectory.actions)
    say(f"  = {reason}, {turns} turns, return {trajectory.episode_return:+.2f}")
    if trajectory.error:
        say(f"    {trajectory.error}")
