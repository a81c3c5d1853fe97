"""`agent-rl report`: reads runs and writes the page, once or whenever they go on."""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.comparison import compare
from agent_rl.commands.compare.report import tables
from agent_rl.commands.compare.runs import is_run
from agent_rl.commands.compare.tables import Grid
from agent_rl.commands.report.chunks import packed
from agent_rl.commands.report.curves import charts, record
from agent_rl.commands.report.episodes import COLUMNS, EpisodeReader, RunPages, share_that_fits
from agent_rl.commands.report.limits import EPISODES_MB
from agent_rl.commands.report.page import Page, render
from agent_rl.commands.report.runs import Ending, ReportedRun, ReportedRuns, read_runs
from agent_rl.commands.report.tables import config_table, evaluation_tables
from agent_rl.commands.report.tokens import token_texts, tokenizer_file
from agent_rl.config import ConfigError
from agent_rl.display import progress, say
from agent_rl.files import write_text
from agent_rl.runs.layout import RunLayout

_POLL_SECONDS = 5.0
"""How often `--watch` looks for a new step."""


def write_report(
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    episodes_mb: float = EPISODES_MB,
    reader: EpisodeReader | None = None,
) -> Path:
    """Write the report of runs and sweeps; returns the page's path.

    Args:
        paths: their folders.
        output: the page; by default `report.html` in the run or sweep, or next to several.
        episodes_mb: the most megabytes of episodes.
        reader: remembers what it has read; by default a new one.

    Raises:
        ConfigError: a folder is neither a run nor a sweep, or `output` is a folder.
    """
    target = output or _default_output(paths)
    if target.is_dir():
        raise ConfigError(f"--output {target}: a folder; name a file, such as report.html")
    runs = read_runs(paths)
    page = make_page(runs, reader or EpisodeReader(), episodes_mb=episodes_mb)
    target.parent.mkdir(parents=True, exist_ok=True)
    text = render(page)
    write_text(target, text)
    say(f"report: {target} ({len(text) / 1e6:.1f} MB); {page.sampled}")
    return target


def watch_runs(
    paths: Sequence[Path], output: Path | None = None, *, episodes_mb: float = EPISODES_MB
) -> None:
    """Write the report now and at every new step or end of a run; return when no run goes on.

    Raises:
        ConfigError: as `write_report`.
    """
    reader = EpisodeReader()
    seen: dict[Path, tuple[tuple[int, int], Ending]] | None = None
    while True:
        runs = read_runs(paths).runs
        now = {run.path: (_mark(run.training.metrics_file), run.ending) for run in runs}
        if now != seen:
            write_report(paths, output, episodes_mb=episodes_mb, reader=reader)
            seen = now
        elif not any(run.ending.state == "running" for run in runs):
            say("no run is going on: the report is as they left it")
            return
        time.sleep(_POLL_SECONDS)


def make_page(reported: ReportedRuns, reader: EpisodeReader, *, episodes_mb: float) -> Page:
    """Gather everything that the page shows.

    Args:
        reported: the runs.
        reader: reads the episodes that it does not know yet.
        episodes_mb: the most megabytes of episodes.
    """
    runs = reported.runs
    notes = list(reported.found.notes)
    pages = _read_episodes(runs, reader, episodes_mb)
    for of_run in pages:
        notes += of_run.notes
    with_steps = [number for number, run in enumerate(runs) if run.run is not None]
    drawn = charts(
        [run for run in (runs[number].run for number in with_steps) if run is not None],
        [{s: step.families for s, step in pages[number].steps.items()} for number in with_steps],
    )
    evaluations: list[Grid] = []
    for run in runs:
        evaluations += evaluation_tables(run, notes)
    texts = {"charts": packed([record(chart) for chart in drawn])}
    for number, (run, of_run) in enumerate(zip(runs, pages, strict=True)):
        texts |= _packed_episodes(number, run, of_run)
    comparison = _comparison(reported, notes)
    names = ", ".join(run.name for run in runs)
    return Page(
        title=names if len(names) < 80 else f"{len(runs)} runs",
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        runs=runs,
        notes=list(dict.fromkeys(notes)),
        settings=config_table(runs),
        evaluations=evaluations,
        comparison=comparison,
        sampled=_sampled(pages),
        facts={
            "runs": [run.name for run in runs],
            "charts": len(drawn),
            "episodes": [of_run.shown for of_run in pages],
        },
        packed=texts,
    )


def _read_episodes(
    runs: Sequence[ReportedRun], reader: EpisodeReader, most_mb: float
) -> list[RunPages]:
    known = [(run.training, run.config) for run in runs if run.config is not None]
    files = sum(len(training.all_step_episodes()) for training, _ in known)
    evaluations = [RunLayout(run.path).evaluations for run in runs if run.config is not None]
    share = share_that_fits(known, most_mb, evaluations)
    pages = []
    with progress("reading episodes", files) as done:
        for run in runs:
            if run.config is None:
                pages.append(RunPages())
            else:
                of_run = reader.read(
                    run.training,
                    run.config,
                    evaluations=RunLayout(run.path).evaluations,
                    share=share,
                    done=done,
                )
                pages.append(of_run)
    return pages


def _packed_episodes(number: int, run: ReportedRun, pages: RunPages) -> dict[str, str]:
    """The packed texts of a run's episodes: the index, the tokens' texts, the chunks."""
    if not pages.shown:
        return {}
    texts: dict[str, str] = {}
    rows: list[list[Any]] = []
    used: set[int] = set()
    chunks = 0
    for part in pages.all:
        first = chunks
        for row in part.rows:
            rows.append([*row[:-2], first + row[-2], row[-1]])
        for chunk in part.chunks:
            texts[f"episodes-{number}-{chunks}"] = chunk
            chunks += 1
        used |= part.token_ids
    texts[f"index-{number}"] = packed(_columns(rows))
    file = tokenizer_file(RunLayout(run.path), run.config)
    texts[f"tokens-{number}"] = packed(token_texts(file, used))
    return texts


def _columns(rows: Iterable[Sequence[Any]]) -> Mapping[str, Sequence[Any]]:
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def _comparison(reported: ReportedRuns, notes: list[str]) -> list[Grid]:
    """The tables of `agent-rl compare`; none if there are not two runs that it can compare."""
    if len(reported.found.runs) < 2:
        return []
    try:
        comparison = compare(reported.found)
    except ConfigError as error:
        notes.append(f"no comparison: {error}")
        return []
    notes += comparison.notes
    return [grid for grid in tables(comparison, ()) if grid.rows]


def _sampled(pages: Sequence[RunPages]) -> str:
    played, shown = (sum(getattr(p, name) for p in pages) for name in ("played", "shown"))
    if not played:
        return "no episodes are on disk"
    if shown == played:
        return f"all {played:,} episodes that are on disk are in it"
    return (
        f"{shown:,} of {played:,} episodes are in it: whole groups, evenly over each step, as "
        "--episodes-mb allows"
    )


def _default_output(paths: Sequence[Path]) -> Path:
    first = paths[0]
    if len(paths) == 1:
        folder = first.parent if is_run(first.parent) and first.name == "train" else first
        return RunLayout(folder).page
    return RunLayout(first.resolve().parent).page


def _mark(path: Path) -> tuple[int, int]:
    """Changes with every line of a file."""
    if not path.is_file():
        return (0, 0)
    stat = path.stat()
    return (stat.st_mtime_ns, stat.st_size)
