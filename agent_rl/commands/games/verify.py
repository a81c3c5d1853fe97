"""`agent-rl games verify`: the native engine against the stock one, over many games."""

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from rich.table import Table

from agent_rl.display import console, progress, say
from agent_rl.files import write_json
from agent_rl.tasks import pick_evenly
from envs.alfworld.data import game_path
from envs.alfworld.engines.stock import TextworldEngine
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.verify import EngineComparison, Mismatch, compare_engines
from rollouts.processes.lifeline import end_with

_REFUSED_SHOWN = 3
"""How many games are named that could not be compared."""


@dataclass(frozen=True, kw_only=True)
class Walks:
    """The walks on which the engines are compared."""

    split: str
    """The split of the games."""
    games: int
    """How many games, in equal shares of the families; 0: all."""
    turns: int
    """The most commands in a walk."""
    seed: int
    """Draws the games and the commands."""


@dataclass(kw_only=True)
class Tally:
    """The sum of the comparisons of one family, or of all."""

    games: int = 0
    """The games that were compared."""
    transitions: int = 0
    """The commands after which both engines were compared."""
    wins: int = 0
    """The walks that won their game."""
    mismatches: list[Mismatch] = field(default_factory=list)
    """All differences."""

    def add(self, comparison: EngineComparison) -> None:
        """Add the comparison of one game."""
        self.games += 1
        self.transitions += comparison.transitions
        self.wins += comparison.wins
        self.mismatches += comparison.mismatches


@dataclass(kw_only=True)
class VerificationReport:
    """The result: the content of the JSON."""

    families: dict[str, Tally]
    """The tallies by family."""
    refused: dict[str, str]
    """The games that an engine could not play, with the reason."""
    seconds: float
    """The wall-clock time."""

    @property
    def total(self) -> Tally:
        """The tally of all families."""
        tallies = self.families.values()
        return Tally(
            games=sum(tally.games for tally in tallies),
            transitions=sum(tally.transitions for tally in tallies),
            wins=sum(tally.wins for tally in tallies),
            mismatches=[mismatch for tally in tallies for mismatch in tally.mismatches],
        )


def verify(data: str, walks: Walks, *, processes: int, report_file: Path | None = None) -> bool:
    """Compare the engines and print a table.

    Args:
        data: the data folder, or `generated`.
        walks: the walks to compare on.
        processes: how many to use; 0: one per core.
        report_file: the report is also written there, as JSON.

    Returns:
        Whether the engines agree everywhere and no game was refused.

    Raises:
        ValueError: there is no such data or split.
    """
    env = AlfworldEnv(data=data)
    report = _compare_all(env, walks, processes)
    title = (
        f"native against textworld, {walks.split} of {data}: up to {walks.turns} commands a walk, "
        f"seed {walks.seed}"
    )
    console.print(_table(report, title))
    for game, reason in list(report.refused.items())[:_REFUSED_SHOWN]:
        say(f"not compared: {game}: {reason}")
    if report.total.mismatches:
        _show(report.total.mismatches[0])
    if report_file is not None:
        write_json(report_file, asdict(report))
    return not report.total.mismatches and not report.refused


def _compare_all(env: AlfworldEnv, walks: Walks, processes: int) -> VerificationReport:
    started = time.perf_counter()
    tasks = pick_evenly(env.tasks(walks.split), walks.games, walks.seed)
    report = VerificationReport(families={}, refused={}, seconds=0.0)
    pool = ProcessPoolExecutor(
        processes or os.cpu_count(),
        # Spawned, not forked: the stock engine's library must not be shared.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=end_with,
        initargs=(os.getpid(),),
    )
    try:
        with progress("games", len(tasks)) as advance:
            waiting = {}
            for task in tasks:
                path = game_path(env.folder, walks.split, task.id)
                waiting[pool.submit(_compare, path, task.id, walks.turns, walks.seed)] = task
            for ended in as_completed(waiting):
                task = waiting[ended]
                try:
                    report.families.setdefault(task.family, Tally()).add(ended.result())
                except Exception as error:
                    # Any error: one game must not cost the comparison of the others.
                    report.refused[task.id] = f"{type(error).__name__}: {error}"
                total = report.total
                advance(f"{total.transitions:,} transitions, {len(total.mismatches)} mismatches")
    finally:
        pool.shutdown(cancel_futures=True)
    report.families = dict(sorted(report.families.items()))
    report.seconds = time.perf_counter() - started
    return report


def _compare(path: Path, game_id: str, turns: int, seed: int) -> EngineComparison:
    """Compare the engines on one game, in a process of the pool."""
    return compare_engines(path, game_id, turns=turns, seed=seed, textworld=_textworld())


@cache
def _textworld() -> TextworldEngine:
    """The process's only stock engine: each one holds 34 MB."""
    return TextworldEngine(facts=True)


def _table(report: VerificationReport, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("family", no_wrap=True)
    for name in ("games", "transitions", "walks won", "mismatches"):
        table.add_column(name, justify="right", no_wrap=True)
    for family, tally in report.families.items():
        table.add_row(family, *_cells(tally))
    table.add_section()
    table.add_row("all", *_cells(report.total), style="bold")
    return table


def _cells(tally: Tally) -> list[str]:
    numbers = (tally.games, tally.transitions, tally.wins, len(tally.mismatches))
    return [f"{number:,}" for number in numbers]


def _show(mismatch: Mismatch) -> None:
    """Print a mismatch in full."""
    say(
        f"the first mismatch, in full: {mismatch.part} of game {mismatch.game}, walk "
        f"{mismatch.walk}, after"
    )
    for number, command in enumerate(mismatch.commands, start=1):
        say(f"{number:>4} {command!r}")
    say(f"native:\n{mismatch.native}")
    say(f"textworld:\n{mismatch.textworld}")
