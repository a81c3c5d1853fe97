"""Reads what runs left behind, finished or not, into plain values: config, metrics, evaluations.

A run is one of:

- a run folder, see `agent_rl.runs.layout`;
- a small copy of one: RUN/{config.yaml, metrics.jsonl, evaluations/*.json};
- each folder SWEEP/<variant>-s<seed>/ of a sweep, whose SWEEP/start/ is their shared start.

Nothing is written. Everything that is left out is named in `Found.notes`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.evaluations import Evaluation, evaluations_of, read_evaluation
from agent_rl.commands.compare.mechanism import MetricsLine, mechanism_keys
from agent_rl.commands.compare.times import TIMES
from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.runs.layout import SWEEP_START, RunLayout, StageLayout

NEEDED = ("rollout/success", *mechanism_keys(), "time/seconds", "time/tokens_per_second")
"""Every line of metrics must have these keys, each with a finite number."""
OPTIONAL = (*mechanism_keys(optional=True), *(metric.key for metric in TIMES))
"""Keys that a line may lack; if it has one, the value is a finite number."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run, as far as it went."""

    path: Path
    """Its folder."""
    name: str
    """Its folder's name; with the parent's name if another run has the same."""
    config: Config
    """The config of its training."""
    metrics: tuple[MetricsLine, ...]
    """A line per rollout step, from the first on."""
    evaluations: Mapping[int, Evaluation]
    """Its evaluations by rollout step; 0 is the warm start, or the start of a sweep."""

    @property
    def steps(self) -> int:
        """The rollout steps that are done."""
        return len(self.metrics)

    @property
    def is_finished(self) -> bool:
        """Whether all rollout steps of the config are done."""
        return self.steps >= self.config.train.rollout_steps

    @property
    def final(self) -> Evaluation | None:
        """The last evaluation, never the best; None if there is none."""
        return None if self.evaluated_after is None else self.evaluations[self.evaluated_after]

    @property
    def evaluated_after(self) -> int | None:
        """The rollout step of the last evaluation; that of the start (step 0) does not count."""
        return max((step for step in self.evaluations if step), default=None)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The runs that were asked for."""

    runs: tuple[Run, ...]
    """In the order in which they were given; the runs of a sweep by name."""
    starts: Mapping[str, Evaluation]
    """The evaluations of the shared starts of sweeps, by label."""
    notes: tuple[str, ...]
    """Sentences on what was left out and what a reader has to know."""


def find_runs(paths: Sequence[Path]) -> Found:
    """Read runs, and all runs of each folder that is a sweep.

    Raises:
        ConfigError: a folder is neither a run nor a sweep, or a file in it cannot be read.
    """
    runs: list[Run] = []
    starts: dict[str, Evaluation] = {}
    notes: list[str] = []
    for named in paths:
        path = named.parent if _is_training_folder(named) else named
        if is_run(path):
            runs.append(read_run(path, notes))
            continue
        of_sweep, start = _read_sweep(path, notes)
        runs += of_sweep
        if start is not None:
            # Several sweeps have several starts: their labels have the sweeps' names.
            label = SWEEP_START if len(paths) == 1 else f"{path.resolve().name}/{SWEEP_START}"
            starts[label] = start
    return Found(runs=tuple(with_unique_names(runs)), starts=starts, notes=tuple(notes))


def is_run(path: Path) -> bool:
    """Whether a folder is a run or a small copy of one, judging by names alone."""
    training = training_of(path)
    return training.folder != path or training.metrics_file.is_file()


def training_of(path: Path) -> StageLayout:
    """The files of a run's training: in RUN/train, or in RUN itself if it is a small copy."""
    train = RunLayout(path).train
    return train if train.folder.is_dir() else StageLayout(path)


def read_run(path: Path, notes: list[str]) -> Run:
    """Read one run.

    Args:
        path: its folder.
        notes: sentences that a reader has to know are added here.

    Raises:
        ConfigError: it has no rollout step yet, or its config, its metrics or an evaluation is of
            another version.
    """
    training = training_of(path)
    metrics = _read_metrics(training.metrics_file, notes)
    if not metrics:
        raise ConfigError(
            f"{training.metrics_file}: no rollout step yet; wait for the first, or leave {path} out"
        )
    config = _read_config(training.config_file)
    evaluations = evaluations_of(path, training, config, len(metrics), notes)
    return Run(
        path=path, name=path.resolve().name, config=config, metrics=metrics, evaluations=evaluations
    )


def _is_training_folder(path: Path) -> bool:
    """Whether a path is RUN/train, which stands for RUN."""
    return path == RunLayout(path.parent).train.folder and is_run(path)


def _read_sweep(path: Path, notes: list[str]) -> tuple[list[Run], Evaluation | None]:
    """The runs of a sweep, and the evaluation of its start if there is one."""
    children = sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
    runs, not_begun = [], []
    for child in children:
        if is_run(child) and has_begun(child):
            runs.append(read_run(child, notes))
            continue
        # A sweep writes the config of a run when its turn comes.
        is_planned = is_run(child) or RunLayout(child).config_file.is_file()
        if is_planned and child.name != SWEEP_START:
            not_begun.append(f"{child}: no rollout step yet; left out")
    if not runs:
        raise ConfigError(_no_run(path))
    notes += not_begun
    report = RunLayout(path / SWEEP_START).final_report
    if not report.is_file():
        return runs, None
    start = read_evaluation(report, step=0)
    return [replace(run, evaluations={0: start, **run.evaluations}) for run in runs], start


def with_unique_names(runs: Sequence[Run]) -> list[Run]:
    """The runs; those with a common name get their parent folder's name in front."""
    names = [run.name for run in runs]
    unique = []
    for run in runs:
        if names.count(run.name) > 1:
            run = replace(run, name=f"{run.path.resolve().parent.name}/{run.name}")
        unique.append(run)
    return unique


def _read_config(path: Path) -> Config:
    try:
        return load_run_config(path)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\n{path.parent} is no run of this version of agent_rl: compare it with the "
            "version that wrote it, or leave it out"
        ) from error


def _read_metrics(path: Path, notes: list[str]) -> tuple[MetricsLine, ...]:
    """The lines of metrics; a torn last line is left out, with a note."""
    if not path.is_file():
        return ()
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    records: list[MetricsLine] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                # A run that was killed, or that is writing just now.
                notes.append(f"{path}: the last line is torn (its writing was cut off); left out")
                break
            raise ConfigError(
                f"{path}:{number}: not a whole line of JSON ({error}), and not the last line "
                "either: the file is damaged; take it from a backup, or leave the run out"
            ) from error
        records.append(_checked(path, number, record))
    return tuple(records)


def _checked(path: Path, number: int, record: Any) -> MetricsLine:
    """A line of metrics that has all needed keys.

    Raises:
        ConfigError: a key is missing or no number, or the line is not that of rollout step
            `number`.
    """
    step = record.get("step") if isinstance(record, dict) else None
    if step != number:
        raise ConfigError(
            f"{path}:{number}: step: {step}; a run has a line for each rollout step, so this "
            f"should be {number}; leave the run out"
        )
    for key in (*NEEDED, *(key for key in OPTIONAL if key in record)):
        value = record.get(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(
                f"{path}:{number}: {key}: {value}; it should be a number. These are no metrics of "
                "`agent-rl train` of this version; compare the run with the version that wrote it, "
                "or leave it out"
            )
    line: MetricsLine = record
    return line


def has_begun(path: Path) -> bool:
    """Whether a run has a line of metrics, even if it is torn."""
    metrics = training_of(path).metrics_file
    return metrics.is_file() and metrics.stat().st_size > 0


def _no_run(path: Path) -> str:
    """The message for a folder that is neither a run nor a sweep."""
    if path.is_dir():
        return (
            f"{path}: no run: there is no train/metrics.jsonl (nor metrics.jsonl) in it or in a "
            "folder of it; name a run_folder of `agent-rl train`, or a sweep's folder, once a "
            "first rollout step is done"
        )
    message = f"{path}: no such folder"
    if path.parent.is_dir():
        neighbours = sorted(str(other) for other in path.parent.iterdir() if other.is_dir())
        if neighbours:
            message += f"; there are: {', '.join(neighbours)}"
    return message
