"""What a sweep is to do: its runs as checked configs, and how far the folder of each says that it
is.

    SWEEP/start/                 the shared start: init/, sft/, evaluations/final.json
    SWEEP/<variant>-s<seed>/     a run: config.yaml, log.txt, attempts.jsonl, train/,
    evaluations/final.json

Light to import (no torch, Ray or vLLM): a typo in the last variant is answered before anything
starts.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import yaml

from agent_rl.config import Config, ConfigError, SweepSettings, load_config, load_run_config
from agent_rl.config.keys import HOW_NOT_WHAT, flat_values
from agent_rl.runs.layout import FINAL_REPORT

START = "start"
WARM_START = f"{START}/sft/model"

Stage = Literal["done", "evaluate", "resume", "new"]
"""What a folder's files leave to do: nothing; the final evaluation; the rest of the training and
it; everything.
"""

_OF_THE_SWEEP = ("run_folder", "seed", "sweep")
_OF_ALL_RUNS = {
    "model": "all runs train the same policy (only model.lora may differ)",
    "sft": "all runs start from the same warm start",
    "evaluation": "all runs are evaluated alike",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The shared start, or one run, with its resolved config."""

    name: str
    config: Config
    variant: str = ""

    @property
    def folder(self) -> Path:
        return Path(self.config.run_folder)

    @property
    def config_file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def report(self) -> Path:
        return report_in(self.folder)

    @property
    def rollout_steps(self) -> int:
        return self.config.train.rollout_steps


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """`runs` in the order in which they are made: the seeds outside, so that each pass over the
    variants is a comparison of all of them.
    """

    folder: Path
    start: Job
    runs: tuple[Job, ...]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a job is: the stage to go on with, and the rollout steps that lie behind it."""

    stage: Stage
    step: int = 0


def read_sweep(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    objectives: str | None = None,
    seeds: str | None = None,
) -> Sweep:
    """Read a config and resolve it for the start and for each run.

    `objectives` (names with commas between) replaces the variants by objectives, `seeds` (numbers
    likewise) the seeds.

    Raises:
        ConfigError: the file, an override or any variant is wrong, or there is nothing to compare.
    """
    base = load_config(path, [*overrides, *_chosen(objectives, seeds)])
    settings = base.sweep or SweepSettings()
    if not settings.variants:
        raise ConfigError(
            f"{path}: sweep.variants: there is none; write them there (name: {{key: value}}), or give "
            "--objectives gmpo,grpo"
        )
    folder = Path(base.run_folder)
    common = [*overrides, "sweep=null"]
    start = Job(
        name=START, config=load_config(path, [*common, _put("run_folder", str(folder / START))])
    )
    if not base.model.path:
        common.append(_put("model.path", str(folder / WARM_START)))
    runs = []
    for seed in settings.seeds:
        for variant, values in settings.variants.items():
            name = f"{variant}-s{seed}"
            own = [_put("run_folder", str(folder / name)), _put("seed", seed)]
            runs.append(
                Job(name=name, variant=variant, config=_resolve(path, common, variant, values, own))
            )
    _refuse_twins(path, runs)
    return Sweep(folder=folder, start=start, runs=tuple(runs))


def standing(job: Job) -> Standing:
    """How far a run is, by its folder.

    Raises:
        ConfigError: it was made, as far as it is, with another config.
    """
    step = last_checkpoint(job.folder / "train")
    if is_report(job.report):
        _refuse_changes(job, evaluated=True)
        return Standing(stage="done", step=job.rollout_steps)
    if not step:
        return Standing(stage="new")
    _refuse_changes(job, evaluated=False)
    return Standing(stage="evaluate" if step >= job.rollout_steps else "resume", step=step)


def start_standing(sweep: Sweep) -> Standing:
    """How far the shared start is. A policy that `model.path` names needs its evaluation only.

    Raises:
        ConfigError: it was made with another config; or it is gone, and there are runs that began
        with it.
    """
    start = sweep.start
    made = bool(start.config.model.path) or (sweep.folder / WARM_START).is_dir()
    if not made:
        trained = [
            run.folder
            for run in sweep.runs
            if last_checkpoint(run.folder / "train") or is_report(run.report)
        ]
        if trained:
            raise ConfigError(
                f"{sweep.folder / WARM_START}: the policy that {trained[0]} was trained from is gone; put it back, or "
                f"delete the runs ({len(trained)} have begun), or name another run_folder=..."
            )
        return Standing(stage="new")
    evaluated = is_report(start.report)
    if start.config_file.is_file() or evaluated or not start.config.model.path:
        _refuse_changes(start, evaluated=evaluated)
    return Standing(stage="done" if evaluated else "evaluate")


def last_checkpoint(train: Path) -> int:
    """The rollout step of the newest checkpoint in a `train/` folder, 0 for none. They appear whole
    or not at all.
    """
    found = [
        path
        for path in (train / "checkpoints").glob("step-*")
        if re.fullmatch(r"step-\d+", path.name)
    ]
    return max(
        (int(path.name.removeprefix("step-")) for path in found if (path / "state.json").is_file()),
        default=0,
    )


def report_in(folder: Path) -> Path:
    """The final evaluation of the run, or of the start, in a folder."""
    return folder / "evaluations" / FINAL_REPORT


def is_report(path: Path) -> bool:
    """Whether an evaluation's report is there and whole: a machine that dies may leave an empty
    file.
    """
    try:
        return "splits" in json.loads(path.read_text())
    except (OSError, ValueError):
        return False


def _chosen(objectives: str | None, seeds: str | None) -> list[str]:
    """The overrides that the command line's lists stand for."""
    chosen = []
    if objectives is not None:
        names = [name.strip() for name in objectives.split(",")]
        chosen.append(_put("sweep.variants", {name: {"learner.objective": name} for name in names}))
    if seeds is not None:
        try:
            chosen.append(_put("sweep.seeds", [int(seed) for seed in seeds.split(",")]))
        except ValueError as error:
            raise ConfigError(
                f"--seeds {seeds}: write numbers with commas between, such as 0,1,2"
            ) from error
    return chosen


def _resolve(
    path: str | Path,
    common: Sequence[str],
    variant: str,
    values: Mapping[str, Any],
    own: Sequence[str],
) -> Config:
    """The config of one run; an error names the variant."""
    where = f"{path}: sweep.variants.{variant}"
    for key in values:
        section, dot, rest = key.partition(".")
        if section in _OF_THE_SWEEP:
            raise ConfigError(f"{where}: {key}: the sweep sets it; remove it here")
        if not dot:
            raise ConfigError(
                f"{where}: {key}: write the whole key with dots, as in learner.objective: gmpo"
            )
        if section in _OF_ALL_RUNS and not (section == "model" and rest.startswith("lora")):
            raise ConfigError(
                f"{where}: {key}: {_OF_ALL_RUNS[section]}; set it above, outside of the variants"
            )
    try:
        return load_config(
            path, [*common, *(_put(key, value) for key, value in values.items()), *own]
        )
    except ConfigError as error:
        raise ConfigError(str(error).replace(f"{path}: ", f"{where}: ")) from error


def _refuse_twins(path: str | Path, runs: Sequence[Job]) -> None:
    first = [run for run in runs if run.config.seed == runs[0].config.seed]
    for one, other in combinations(first, 2):
        if not _changes(one.config, other.config):
            raise ConfigError(
                f"{path}: sweep.variants: {one.variant} and {other.variant} are the same, so there is nothing to "
                "compare; remove one of them"
            )


def _changes(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ in more than how they are computed, with both values."""
    left, right = _flat(a), _flat(b)
    keys = sorted({*left, *right} - {*HOW_NOT_WHAT})
    return {key: (left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)}


def _put(key: str, value: Any) -> str:
    """The override that sets `key`; YAML on one line."""
    return f"{key}={yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float('inf'))}"


def _refuse_changes(job: Job, *, evaluated: bool) -> None:
    """Raise where a job's folder was made with other values; those of the evaluation count once it
    is there.
    """
    for key, (was, now) in _changes(load_run_config(job.config_file), job.config).items():
        of_evaluation = key.startswith("evaluation.")
        if of_evaluation and not evaluated:
            continue
        again = (
            f"delete {job.report} to evaluate it anew"
            if of_evaluation
            else f"delete {job.folder} to make it anew"
        )
        raise ConfigError(
            f"{job.config_file}: {key}: {job.name} was made with {was!r}, and the config now says {now!r}; set it "
            f"back, or name another run_folder=..., or {again}"
        )


def _flat(config: Config) -> dict[str, Any]:
    """A config's values by their dotted keys, without what says where the sweep lies."""
    values = flat_values(config)
    if config.model.path == str(Path(values.pop("run_folder")).parent / WARM_START):
        values["model.path"] = "the sweep's warm start"
    return values
