"""The plan of a sweep: its runs as checked configs, and the progress that their folders show.

    SWEEP/start/                 the shared start: init/, sft/, evaluations/final.json
    SWEEP/<variant>-s<seed>/     a run: a run folder with config.yaml, log.txt, attempts.jsonl

With a grid, the variants are those of the config at each of its points (`grid`).

See `agent_rl.runs.layout` for the files in them. Light to import (no torch, Ray or vLLM): a typo in
the last variant is an error before anything starts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from agent_rl.commands.sweep.grid import GridCell, axes_of, cells_of, chosen_cells
from agent_rl.config import Config, ConfigError, SweepSettings, load_config, load_run_config
from agent_rl.config.keys import EXECUTION_KEYS, changed_values, flat_values
from agent_rl.evaluation.report import is_report
from agent_rl.runs.layout import SWEEP_START, RunLayout

NextStep = Literal["done", "evaluate", "resume", "new"]
"""The work that is left for a job: nothing; the final evaluation; the rest of the training, then
the evaluation; everything.
"""

_SET_BY_THE_SWEEP = ("run_folder", "seed", "sweep")
_SHARED_BY_ALL_RUNS = {
    "model": "all runs train the same policy (only model.lora may differ)",
    "sft": "all runs start from the same warm start",
    "evaluation": "all runs are evaluated alike",
}


@dataclass(frozen=True, kw_only=True)
class SweepJob:
    """The shared start, or one run."""

    name: str
    """The name of its folder in the sweep's folder."""
    config: Config
    """Its resolved config."""
    variant: str = ""
    """The run's variant, at its point of the grid; empty for the start."""
    arm: str = ""
    """The variant of the config; empty for the start."""
    points: Mapping[str, str] = field(default_factory=dict)
    """The name of its point, by the grid's axis."""

    @property
    def layout(self) -> RunLayout:
        """Its files."""
        return RunLayout(Path(self.config.run_folder))

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.layout.folder

    @property
    def rollout_steps(self) -> int:
        """The rollout steps that its config asks for."""
        return self.config.train.rollout_steps


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A start and the runs that begin with it."""

    folder: Path
    """The sweep's folder."""
    start: SweepJob
    """The shared start."""
    runs: tuple[SweepJob, ...]
    """In the order of work: all variants with the first seed, then with the second, ... After each
    seed all variants can be compared.
    """
    axes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The names of the points of each axis of the grid, in the config's order."""
    words: Sequence[str] = ()
    """The arguments of `agent-rl sweep` that name it."""


@dataclass(frozen=True, kw_only=True)
class SweepProgress:
    """The progress of a job."""

    next_step: NextStep
    """The work that is left."""
    step: int = 0
    """The rollout steps that are done."""


def read_sweep(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    objectives: str | None = None,
    seeds: str | None = None,
    only: str | None = None,
) -> Sweep:
    """Read a config and resolve it for the start and for each run.

    Args:
        path: the config's file.
        overrides: `key=value`, for all runs.
        objectives: names with commas between; they replace the variants.
        seeds: numbers with commas between; they replace the seeds.
        only: globs with commas between; variants with other names are left out.

    Raises:
        ConfigError: the file, an override or a variant is wrong, or there is nothing to compare.
    """
    base = load_config(path, [*overrides, *_lists_as_overrides(objectives, seeds)])
    settings = base.sweep or SweepSettings()
    if not settings.variants:
        raise ConfigError(
            f"{path}: sweep.variants: there is none; write them there (name: {{key: value}}), or "
            "give --objectives gmpo,grpo"
        )
    folder = Path(base.run_folder)
    common = [*overrides, "sweep=null"]
    start_config = load_config(path, [*common, _override("run_folder", str(folder / SWEEP_START))])
    start = SweepJob(name=SWEEP_START, config=start_config)
    if not base.model.path:
        common.append(_override("model.path", str(start.layout.sft.model)))
    cells = _named(path, settings)
    if only is not None:
        cells = chosen_cells(cells, only)
    configs = {cell.name: _resolve(path, common, cell) for cell in cells}
    runs = []
    for seed in settings.seeds:
        for cell in cells:
            name = f"{cell.name}-s{seed}"
            own = {"run_folder": str(folder / name), "seed": seed}
            config = configs[cell.name].model_copy(update=own)
            run = SweepJob(
                name=name, config=config, variant=cell.name, arm=cell.arm, points=cell.points
            )
            runs.append(run)
    _refuse_equal_variants(path, runs[: len(cells)])
    axes = {axis: list(points) for axis, points in axes_of(settings).items()}
    words = [str(path), *overrides]
    for option, value in (("objectives", objectives), ("seeds", seeds), ("only", only)):
        if value is not None:
            words.append(f"--{option}={value}")
    return Sweep(folder=folder, start=start, runs=tuple(runs), axes=axes, words=words)


def progress_of_run(run: SweepJob) -> SweepProgress:
    """The progress of a run, judging by its folder.

    Raises:
        ConfigError: its folder was made with another config.
    """
    step = run.layout.train.last_step()
    if is_report(run.layout.final_report):
        _refuse_changes(run, evaluated=True)
        return SweepProgress(next_step="done", step=run.rollout_steps)
    if not step:
        return SweepProgress(next_step="new")
    _refuse_changes(run, evaluated=False)
    trained = step >= run.rollout_steps
    return SweepProgress(next_step="evaluate" if trained else "resume", step=step)


def progress_of_start(sweep: Sweep) -> SweepProgress:
    """The progress of the shared start. A policy in `model.path` is evaluated only.

    Raises:
        ConfigError: it was made with another config; or it is gone, and runs began with it.
    """
    start = sweep.start
    named = bool(start.config.model.path)
    if not named and not start.layout.sft.model.is_dir():
        _refuse_runs_without_start(sweep)
        return SweepProgress(next_step="new")
    evaluated = is_report(start.layout.final_report)
    # A named policy is in no folder of the sweep, so there may be no config of it yet.
    if start.layout.config_file.is_file() or evaluated or not named:
        _refuse_changes(start, evaluated=evaluated)
    return SweepProgress(next_step="done" if evaluated else "evaluate")


def _refuse_runs_without_start(sweep: Sweep) -> None:
    begun = []
    for run in sweep.runs:
        if run.layout.train.last_step() or is_report(run.layout.final_report):
            begun.append(run.folder)
    if begun:
        raise ConfigError(
            f"{sweep.start.layout.sft.model}: the policy that {begun[0]} was trained from is gone; "
            f"put it back, or delete the runs ({len(begun)} have begun), or name another "
            "run_folder=..."
        )


def _lists_as_overrides(objectives: str | None, seeds: str | None) -> list[str]:
    """The overrides that the command line's lists stand for."""
    overrides = []
    if objectives is not None:
        names = [name.strip() for name in objectives.split(",")]
        variants = {name: {"learner.objective": name} for name in names}
        overrides.append(_override("sweep.variants", variants))
    if seeds is not None:
        try:
            numbers = [int(seed) for seed in seeds.split(",")]
        except ValueError as error:
            raise ConfigError(
                f"--seeds {seeds}: write numbers with commas between, such as 0,1,2"
            ) from error
        overrides.append(_override("sweep.seeds", numbers))
    return overrides


def _named(path: str | Path, settings: SweepSettings) -> list[GridCell]:
    """The variants at all points of the grid; an error names the file."""
    try:
        return cells_of(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _resolve(path: str | Path, common: Sequence[str], cell: GridCell) -> Config:
    """The config of a variant, but for folder and seed; an error names the variant."""
    section = f"{path}: sweep.variants.{cell.name}"
    for key in cell.values:
        _refuse_key(section, key)
    overrides = [_override(key, value) for key, value in cell.values.items()]
    try:
        return load_config(path, [*common, *overrides])
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{path}: ", f"{section}: ")) from error


def _refuse_key(section: str, key: str) -> None:
    """Raise if a variant must not set a key."""
    first, dot, rest = key.partition(".")
    if first in _SET_BY_THE_SWEEP:
        raise ConfigError(f"{section}: {key}: the sweep sets it; remove it here")
    if not dot:
        raise ConfigError(
            f"{section}: {key}: write the whole key with dots, as in learner.objective: gmpo"
        )
    is_adapter = first == "model" and rest.startswith("lora")
    if first in _SHARED_BY_ALL_RUNS and not is_adapter:
        reason = _SHARED_BY_ALL_RUNS[first]
        raise ConfigError(f"{section}: {key}: {reason}; set it above, outside of the variants")


def _refuse_equal_variants(path: str | Path, runs: Sequence[SweepJob]) -> None:
    """Raise if two of the runs, which have one seed, have the same settings."""
    by_settings: dict[str, SweepJob] = {}
    for run in runs:
        values = _flat(run.config)
        for key in EXECUTION_KEYS:
            values.pop(key, None)
        twin = by_settings.setdefault(json.dumps(values, sort_keys=True), run)
        if twin is not run:
            raise ConfigError(
                f"{path}: sweep.variants: {twin.variant} and {run.variant} are the same, so there "
                "is nothing to compare; remove one of them"
            )


def _refuse_changes(job: SweepJob, *, evaluated: bool) -> None:
    """Raise if a job's folder was made with other values.

    Args:
        job: the job with its present config.
        evaluated: whether it has its final evaluation. Until then `evaluation.*` may change.
    """
    config_file = job.layout.config_file
    for key, (was, now) in _changes(load_run_config(config_file), job.config).items():
        of_evaluation = key.startswith("evaluation.")
        if of_evaluation and not evaluated:
            continue
        if of_evaluation:
            way_out = f"delete {job.layout.final_report} to evaluate it again"
        else:
            way_out = f"delete {job.folder} to make it again"
        raise ConfigError(
            f"{config_file}: {key}: {job.name} was made with {was!r}, and the config now says "
            f"{now!r}; set it back, or name another run_folder=..., or {way_out}"
        )


def _changes(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with both values; `EXECUTION_KEYS` does not count."""
    return changed_values(_flat(a), _flat(b))


def _flat(config: Config) -> dict[str, Any]:
    """A config's values by their dotted keys, without the place of the sweep's folder."""
    values = flat_values(config)
    start = RunLayout(Path(values.pop("run_folder")).parent / SWEEP_START)
    if config.model.path == str(start.sft.model):
        # A sweep that was moved is the same.
        values["model.path"] = "the sweep's warm start"
    return values


def _override(key: str, value: Any) -> str:
    """The override that sets `key`; YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return f"{key}={text}"
