"""The runs of a report, and how each of them ended. Nothing is written."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from agent_rl.commands.compare.runs import (
    Found,
    Run,
    find_runs,
    is_run,
    training_of,
    with_unique_names,
)
from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.runs.ending import TrainingEnd, read_end
from agent_rl.runs.layout import RunLayout, StageLayout, run_around
from envs.files import is_locked

State = Literal["finished", "running", "interrupted", "stopped", "failed"]
"""How a run stands. One that stopped left no word of its end."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a run stands, for a person."""

    state: State
    """In one word."""
    said: str
    """A sentence about it."""


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A run as a report shows it, even if it has no rollout step yet."""

    path: Path
    """Its folder."""
    name: str
    """A name that no other run of the report has."""
    config: Config | None
    """The config of its training; None if there is none that can be read."""
    run: Run | None
    """What `agent-rl compare` reads of it; None before the first step, or if it is damaged."""
    ending: Ending
    """How it stands."""

    @property
    def training(self) -> StageLayout:
        """The files of its training."""
        return training_of(self.path)


@dataclass(frozen=True, kw_only=True)
class ReportedRuns:
    """All runs of a report."""

    runs: Sequence[ReportedRun]
    """In the order in which they were given; those of a sweep by name."""
    found: Found
    """Those that can be compared."""


def read_runs(paths: Sequence[Path]) -> ReportedRuns:
    """Read runs, those of sweeps, and what is there of runs without a rollout step.

    Raises:
        ConfigError: a folder is neither a run nor a sweep, or one run of a sweep is damaged.
    """
    reported: list[ReportedRun] = []
    starts: dict[str, Any] = {}
    notes: list[str] = []
    for path in paths:
        try:
            found = find_runs([path])
        except ConfigError as error:
            if not (is_run(path) or run_around(path) == path.absolute()):
                raise
            reported.append(_without_steps(path))
            notes.append(str(error))
            continue
        reported += [_with_steps(run) for run in found.runs]
        notes += found.notes
        for label, start in found.starts.items():
            starts[label if len(paths) == 1 else f"{path.resolve().name}/{label}"] = start
    comparable = with_unique_names([each.run for each in reported if each.run is not None])
    named = {run.path: run for run in comparable}
    runs = []
    for each in reported:
        run = named.get(each.path)
        runs.append(replace(each, run=run, name=each.name if run is None else run.name))
    return ReportedRuns(
        runs=runs, found=Found(runs=tuple(comparable), starts=starts, notes=tuple(notes))
    )


def _with_steps(run: Run) -> ReportedRun:
    ending = how_it_stands(run.path, run.steps, run.config.train.rollout_steps)
    return ReportedRun(path=run.path, name=run.name, config=run.config, run=run, ending=ending)


def _without_steps(path: Path) -> ReportedRun:
    config = None
    with suppress(ConfigError):
        config = load_run_config(training_of(path).config_file)
    planned = config.train.rollout_steps if config else 0
    return ReportedRun(
        path=path,
        name=path.resolve().name,
        config=config,
        run=None,
        ending=how_it_stands(path, 0, planned),
    )


def how_it_stands(path: Path, steps: int, planned: int) -> Ending:
    """How a run stands, from the files that it left.

    Args:
        path: its folder.
        steps: the rollout steps that it has done.
        planned: the rollout steps of its config.
    """
    training, done = training_of(path), f"{steps:,} of {planned:,} rollout steps"
    end = read_end(RunLayout(path))
    if (planned and steps >= planned) or (end is not None and end.state == "finished"):
        return Ending(state="finished", said=f"all {planned:,} rollout steps are done{_after(end)}")
    # A sweep holds the lock of its own folder.
    if any(is_locked(RunLayout(folder).lock_file) for folder in (path, path.absolute().parent)):
        return Ending(state="running", said=f"{done}, and a process is at work in its folder")
    if steps:
        done += f"; last written {_when(training.metrics_file)}"
    saved = training.last_step()
    goes_on = f"; the checkpoint of step {saved} is whole, --resume goes on" if saved else ""
    if end is not None and end.state == "interrupted":
        signal = f"stopped by {end.reason}" if end.reason else "stopped by its user"
        return Ending(state="interrupted", said=f"{done}; {signal}{goes_on}")
    error = _error_without_end(path) if end is None else end.reason
    if error:
        return Ending(state="failed", said=f"{done}{goes_on}: {error}")
    killed = "nothing tells how it ended, as when the system kills it"
    return Ending(state="stopped", said=f"{done}; {killed}{goes_on}")


def _after(end: TrainingEnd | None) -> str:
    """What became of the work after the last step: its evaluation may fail, or be interrupted."""
    if end is None or end.state == "finished":
        return ""
    why = f" ({end.reason})" if end.reason else ""
    return f"; after them, at {end.at}: {end.state}{why}"


def _error_without_end(path: Path) -> str:
    """Why a run failed that could not say it itself, or is of an earlier version; else empty."""
    batches = training_of(path).not_finite
    if batches.is_dir() and any(batches.iterdir()):
        return f"a loss was not finite; the batch is in {batches}"
    return _last_error(RunLayout(path).attempts_file)


def _when(path: Path) -> str:
    written = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
    return f"{written:%Y-%m-%d %H:%M} UTC"


def _last_error(attempts: Path) -> str:
    """Why the last process of a sweep's run failed; empty if it did not."""
    error = ""
    if attempts.is_file():
        for line in attempts.read_text(errors="replace").splitlines():
            with suppress(ValueError, AttributeError):
                error = str(json.loads(line).get("error", ""))
    return error
