"""Reads what runs left behind, finished or not, into plain values: config, metrics, evaluations.

    RUN/train/{config.yaml, metrics.jsonl, evaluations/step-*.json},
    RUN/evaluations/{final,sft-*,step-*}.json RUN/{config.yaml, metrics.jsonl, evaluations/*.json}
    a small copy of one SWEEP/<variant>-s<seed>/                                   a RUN each;
    SWEEP/start/ is what they began with

Nothing is written, and nothing is repaired in silence: what was left out is told in `Found.notes`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.evaluations import Evaluation, evaluations_of, read_evaluation
from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.runs.layout import FINAL_REPORT

NEEDED = (
    "rollout/success",
    "learner/ratio_p01",
    "learner/ratio_p99",
    "learner/log_ratio_rms",
    "learner/clip_fraction_low",
    "learner/clip_fraction_high",
    "learner/grad_norm",
    "learner/entropy",
    "learner/mismatch_abs_mean",
    "time/seconds",
    "time/tokens_per_second",
)
"""What every line of metrics must have, as a number."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as far as it went. `metrics` has a line per rollout step, from the first on. `name` is
    its folder's, with the parent's where two have the same.

    `evaluations` by rollout step (`agent_rl.commands.compare.evaluations`); step 0 is the warm
    start, or the start of a sweep.
    """

    path: Path
    name: str
    config: Config
    metrics: tuple[Mapping[str, float], ...]
    evaluations: Mapping[int, Evaluation]

    @property
    def steps(self) -> int:
        return len(self.metrics)

    @property
    def is_finished(self) -> bool:
        return self.steps >= self.config.train.rollout_steps

    @property
    def final(self) -> Evaluation | None:
        """The last evaluation, never the best; None where there is none."""
        return None if self.evaluated_after is None else self.evaluations[self.evaluated_after]

    @property
    def evaluated_after(self) -> int | None:
        """The rollout step of the last evaluation; that of the warm start is none of the run's own."""
        return max((step for step in self.evaluations if step), default=None)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The runs that were asked for; `starts`: the evaluations of what sweeps began with, by label;
    `notes` to tell.
    """

    runs: tuple[Run, ...]
    starts: Mapping[str, Evaluation]
    notes: tuple[str, ...]


def find_runs(paths: Sequence[Path]) -> Found:
    """Read runs, and all runs of each folder that is a sweep.

    Raises:
        ConfigError: a folder is no run and no sweep, or what it holds cannot be read.
    """
    runs: list[Run] = []
    starts: dict[str, Evaluation] = {}
    notes: list[str] = []
    for named in paths:
        path = named.parent if named.name == "train" and is_run(named) else named
        if is_run(path):
            runs.append(read_run(path, notes))
            continue
        children = (
            sorted(child for child in path.iterdir() if child.is_dir()) if path.is_dir() else []
        )
        found = [
            read_run(child, notes) for child in children if is_run(child) and _has_begun(child)
        ]
        if not found:
            raise ConfigError(_nothing_there(path))
        start = path / "start" / "evaluations" / FINAL_REPORT
        if start.is_file():
            began = read_evaluation(start, step=0)
            starts["start" if len(paths) == 1 else f"{path.resolve().name}/start"] = began
            found = [replace(run, evaluations={0: began, **run.evaluations}) for run in found]
        runs += found
        notes += [
            f"{child}: no rollout step yet; left out"
            for child in children
            if child.name != "start"
            and (is_run(child) or (child / "config.yaml").is_file())
            and not _has_begun(child)
        ]
    return Found(runs=tuple(_with_own_names(runs)), starts=starts, notes=tuple(notes))


def is_run(path: Path) -> bool:
    """Whether a folder is a run's or a copy of one, as far as its names say."""
    return (path / "train").is_dir() or (path / "metrics.jsonl").is_file()


def read_run(path: Path, notes: list[str]) -> Run:
    """Read one run; what a reader ought to know about it is added to `notes`.

    Raises:
        ConfigError: it has no rollout step yet, or its config, its metrics or an evaluation is not
        of this version.
    """
    inner = path / "train" if (path / "train").is_dir() else path
    metrics = _read_metrics(inner / "metrics.jsonl", notes)
    if not metrics:
        raise ConfigError(
            f"{inner / 'metrics.jsonl'}: no rollout step yet; wait for the first, or leave {path} out"
        )
    config = _read_config(inner / "config.yaml")
    evaluations = evaluations_of(path, inner, config, len(metrics), notes)
    return Run(
        path=path, name=path.resolve().name, config=config, metrics=metrics, evaluations=evaluations
    )


def _with_own_names(runs: Sequence[Run]) -> Iterator[Run]:
    names = [run.name for run in runs]
    for run in runs:
        parent = run.path.resolve().parent.name
        yield run if names.count(run.name) == 1 else replace(run, name=f"{parent}/{run.name}")


def _read_config(path: Path) -> Config:
    try:
        return load_run_config(path)
    except ConfigError as error:
        raise ConfigError(
            f"{error}\n{path.parent} is no run of this version of agent_rl: compare it with the version that wrote it, "
            "or leave it out"
        ) from error


def _read_metrics(path: Path, notes: list[str]) -> tuple[Mapping[str, float], ...]:
    """The lines of metrics; a torn last line is left out, with a note."""
    if not path.is_file():
        return ()
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    records: list[Mapping[str, float]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                notes.append(f"{path}: the last line is torn (its writing was cut off); left out")
                break
            raise ConfigError(
                f"{path}:{number}: not a whole line of JSON ({error}), and not the last line either: the file is "
                "damaged; take it from a backup, or leave the run out"
            ) from error
        records.append(_checked(path, number, record))
    return tuple(records)


def _checked(path: Path, number: int, record: Any) -> Mapping[str, float]:
    """A line of metrics with all that is needed of it."""
    if not isinstance(record, dict) or record.get("step") != number:
        step = record.get("step") if isinstance(record, dict) else None
        raise ConfigError(
            f"{path}:{number}: step: {step}; a run has a line for each rollout step, so this should be {number}; "
            "leave the run out"
        )
    for key in NEEDED:
        value = record.get(key)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(
                f"{path}:{number}: {key}: {value}; it should be a number. These are no metrics of `agent-rl train` of "
                "this version; compare the run with the version that wrote it, or leave it out"
            )
    return record


def _has_begun(path: Path) -> bool:
    """Whether a run has a line of metrics, if only a torn one."""
    metrics = (path / "train" if (path / "train").is_dir() else path) / "metrics.jsonl"
    return metrics.is_file() and metrics.stat().st_size > 0


def _nothing_there(path: Path) -> str:
    if not path.is_dir():
        near = (
            sorted(str(p) for p in path.parent.iterdir() if p.is_dir())
            if path.parent.is_dir()
            else []
        )
        return f"{path}: no such folder" + (f"; there are: {', '.join(near)}" if near else "")
    return (
        f"{path}: no run: there is no train/metrics.jsonl (nor metrics.jsonl) in it or in a folder of it; name a "
        "run_folder of `agent-rl train`, or a sweep's folder, once a first rollout step is done"
    )
