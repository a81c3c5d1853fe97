"""`agent-rl games verify`: the native engine against the stock one, over many games and several
processes.
"""

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from rich.table import Table

from agent_rl.display import console, progress, say
from agent_rl.tasks import pick_evenly
from envs import Task
from envs.alfworld.data import game_path
from envs.alfworld.engines.stock import TextworldEngine
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.verify import EngineComparison, Mismatch, compare_engines
from rollouts.processes.lifeline import end_with


@dataclass(kw_only=True)
class Tally:
    """What the comparisons of one family, or of all, came to."""

    games: int = 0
    transitions: int = 0
    wins: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)

    def add(self, comparison: EngineComparison) -> None:
        self.games += 1
        self.transitions += comparison.transitions
        self.wins += comparison.wins
        self.mismatches += comparison.mismatches


@dataclass(kw_only=True)
class VerificationReport:
    """The tallies by family, the games that an engine could not play with the reason, and the
    seconds it took.
    """

    families: dict[str, Tally]
    refused: dict[str, str]
    seconds: float

    @property
    def total(self) -> Tally:
        tallies = self.families.values()
        return Tally(
            games=sum(tally.games for tally in tallies),
            transitions=sum(tally.transitions for tally in tallies),
            wins=sum(tally.wins for tally in tallies),
            mismatches=[mismatch for tally in tallies for mismatch in tally.mismatches],
        )


def verify(
    data: str,
    *,
    split: str,
    games: int,
    turns: int,
    seed: int,
    processes: int,
    report_file: Path | None = None,
) -> bool:
    """Compare the engines on `games` games of a split (0: all), print a table; whether they agree
    everywhere.

    Raises:
        ValueError: there is no such data or split.
    """
    env = AlfworldEnv(data=data)
    tasks = pick_evenly(env.tasks(split), games, seed)
    folder = env.folder
    report = _compare_all(
        tasks,
        lambda task: game_path(folder, split, task.id),
        turns=turns,
        seed=seed,
        count=processes,
    )
    title = (
        f"native against textworld, {split} of {data}: up to {turns} commands a walk, seed {seed}"
    )
    console.print(_table(report, title))
    for game, reason in list(report.refused.items())[:3]:
        say(f"not compared: {game}: {reason}")
    if report.total.mismatches:
        _show(report.total.mismatches[0])
    if report_file is not None:
        report_file.parent.mkdir(parents=True, exist_ok=True)
        report_file.write_text(json.dumps(asdict(report), indent=2) + "\n")
    return not report.total.mismatches and not report.refused


def _compare_all(
    tasks: Sequence[Task], path_of: Callable[[Task], Path], *, turns: int, seed: int, count: int
) -> VerificationReport:
    started = time.perf_counter()
    report = VerificationReport(families={}, refused={}, seconds=0.0)
    # Spawned, not forked: the stock engine's library must not be shared.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        count or os.cpu_count(), mp_context=context, initializer=end_with, initargs=(os.getpid(),)
    )
    try:
        with progress("games", len(tasks)) as advance:
            waiting = {
                pool.submit(_compare, path_of(task), task.id, turns, seed): task for task in tasks
            }
            for done in as_completed(waiting):
                task = waiting[done]
                try:
                    report.families.setdefault(task.family, Tally()).add(done.result())
                except Exception as error:
                    # Whatever stopped it: the comparison of the other games is not to be lost with
                    # it.
                    report.refused[task.id] = f"{type(error).__name__}: {error}"
                advance(
                    f"{report.total.transitions:,} transitions, {len(report.total.mismatches)} mismatches"
                )
    finally:
        pool.shutdown(cancel_futures=True)
    report.families = dict(sorted(report.families.items()))
    report.seconds = time.perf_counter() - started
    return report


def _compare(path: Path, game_id: str, turns: int, seed: int) -> EngineComparison:
    return compare_engines(path, game_id, turns=turns, seed=seed, textworld=_textworld())


@cache
def _textworld() -> TextworldEngine:
    """One for each process: every further one would hold 34 MB of its own."""
    return TextworldEngine(facts=True)


def _table(report: VerificationReport, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("family", no_wrap=True)
    for name in ("games", "transitions", "walks won", "mismatches"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, tally in (*report.families.items(), ("all", report.total)):
        if name == "all":
            table.add_section()
        numbers = (tally.games, tally.transitions, tally.wins, len(tally.mismatches))
        table.add_row(
            name, *(f"{number:,}" for number in numbers), style="bold" if name == "all" else None
        )
    return table


def _show(mismatch: Mismatch) -> None:
    say(
        f"the first mismatch, in full: {mismatch.part} of game {mismatch.game}, walk {mismatch.walk}, after"
    )
    for number, command in enumerate(mismatch.commands, start=1):
        say(f"{number:>4} {command!r}")
    say(f"native:\n{mismatch.native}")
    say(f"textworld:\n{mismatch.textworld}")
