"""Which runs belong together, their names, and what a reader has to know before comparing them."""

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent_rl.commands.compare.runs import Run
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL
from agent_rl.config import ConfigError
from agent_rl.config.keys import EXECUTION_KEYS, UNCOMPARED_SECTIONS, flat_values

Variants = Mapping[str, Sequence[Run]]
"""The runs of each variant by its label, in the order of their seeds."""

_OF_ONE_RUN = ("seed", "run_folder")
_NOT_COMPARED = ("model", "weights", "rollout_step", "seed", "stage", "split", "splits")
"""Settings of an evaluation that may differ between runs without a note."""


def grouped(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, list[Run]]:
    """Group runs into variants, whose configs differ only in seed, folder and `EXECUTION_KEYS`.

    Args:
        runs: the variants keep their order.
        labels: names for variants, each with a glob that the names of the variant's runs match.

    Raises:
        ConfigError: a seed occurs twice in a variant, or a label matches no variant or several.
    """
    variants = _same_settings(runs)
    names = _names(variants)
    for label, glob in labels.items():
        names[_matching(variants, label, glob)] = label
    if len(set(names)) < len(names):
        raise ConfigError(f"--label: two variants have one name: {', '.join(names)}; give others")
    by_name = {}
    for name, variant in zip(names, variants, strict=True):
        by_name[name] = sorted(variant, key=lambda run: run.config.seed)
    return by_name


def _same_settings(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each setting; no two of them with one seed."""
    variants: list[list[Run]] = []
    settings: list[dict[str, Any]] = []
    for run in runs:
        setting = _setting(run)
        if setting not in settings:
            settings.append(setting)
            variants.append([])
        variant = variants[settings.index(setting)]
        for other in variant:
            if other.config.seed == run.config.seed:
                raise ConfigError(
                    f"{other.path} and {run.path} have the same config and the same seed "
                    f"{run.config.seed}: they would count as two seeds; name one of them"
                )
        variant.append(run)
    return variants


def differing(variants: Iterable[Sequence[Run]]) -> list[str]:
    """The dotted keys in which variants differ; the objective comes first."""
    settings = [_setting(runs[0]) for runs in variants]
    keys = sorted(set().union(*settings), key=lambda key: (key != "learner.objective", key))
    return [key for key in keys if len(_different(key, settings)) > 1]


def notes_on(variants: Variants) -> list[str]:
    """Sentences on what makes runs hard to compare: unfinished ones, seeds, evaluations."""
    notes = []
    for label, runs in variants.items():
        notes += _notes_on_runs(label, runs)
    notes += _notes_on_seeds(variants)
    notes += _notes_on_evaluations([run for runs in variants.values() for run in runs])
    return notes


def _setting(run: Run) -> dict[str, Any]:
    """The values that make the variant, by dotted key."""
    left_out = (*_OF_ONE_RUN, *EXECUTION_KEYS)
    sections = ("sweep", *UNCOMPARED_SECTIONS)
    setting = {}
    for key, value in flat_values(run.config).items():
        if key not in left_out and key.partition(".")[0] not in sections:
            setting[key] = value
    return setting


def _different(key: str, settings: Iterable[Mapping[str, Any]]) -> list[str]:
    """The different values of a key, as JSON texts in the order in which they first appear."""
    return list(dict.fromkeys(json.dumps(setting.get(key)) for setting in settings))


def _names(variants: Sequence[Sequence[Run]]) -> list[str]:
    """The short name of each variant: the objective, and other keys with values that are set."""
    keys = differing(variants)
    last_parts = [key.rpartition(".")[2] for key in keys]
    short = {}
    for key, last_part in zip(keys, last_parts, strict=True):
        # `train.temperature` and `evaluation.temperature` are written whole.
        short[key] = last_part if last_parts.count(last_part) == 1 else key
    names = []
    for runs in variants:
        setting = _setting(runs[0])
        parts = []
        for key in keys:
            value = setting.get(key)
            if value is not None:
                text = value if isinstance(value, str) else json.dumps(value)
                parts.append(f"{short[key]}={text}".removeprefix("objective="))
        names.append(", ".join(parts) or setting["learner.objective"])
    return names


def _matching(variants: Sequence[Sequence[Run]], label: str, glob: str) -> int:
    """The index of the variant whose runs' names match the glob."""
    matching = []
    for index, runs in enumerate(variants):
        if any(fnmatch.fnmatchcase(run.name, glob) for run in runs):
            matching.append(index)
    if len(matching) == 1:
        return matching[0]
    if not matching:
        names = ", ".join(run.name for runs in variants for run in runs)
        raise ConfigError(f"--label {label}={glob}: matches no run; there are: {names}")
    keys = ", ".join(differing([variants[index] for index in matching]))
    raise ConfigError(
        f"--label {label}={glob}: matches runs whose configs differ, in {keys}: they are not the "
        "seeds of one variant"
    )


def _notes_on_runs(label: str, runs: Sequence[Run]) -> list[str]:
    notes = []
    for run in runs:
        total = run.config.train.rollout_steps
        if not run.is_finished:
            notes.append(f"{run.name}: unfinished: {run.steps} of {total} rollout steps")
        if run.final is None:
            notes.append(f"{run.name}: no evaluation")
        elif run.evaluated_after != run.steps:
            notes.append(
                f"{run.name}: last evaluated after rollout step {run.evaluated_after} of "
                f"{run.steps}"
            )
    values = [flat_values(run.config) for run in runs]
    keys = [key for key in EXECUTION_KEYS if len(_different(key, values)) > 1]
    if keys:
        notes.append(
            f"{label}: its seeds differ in {', '.join(keys)}: this changes their time, and "
            "otherwise no more than the order of sums"
        )
    return notes


def _notes_on_seeds(variants: Variants) -> list[str]:
    seeds = {label: [run.config.seed for run in runs] for label, runs in variants.items()}
    notes = []
    few = [label for label, numbers in seeds.items() if len(numbers) < SEEDS_FOR_INTERVAL]
    if few:
        notes.append(
            f"fewer than {SEEDS_FOR_INTERVAL} seeds: {', '.join(few)}; success over seeds has a "
            "range and no interval"
        )
    if len({tuple(numbers) for numbers in seeds.values()}) > 1:
        each = [f"{label}: {', '.join(map(str, numbers))}" for label, numbers in seeds.items()]
        notes.append(f"the variants have different seeds: {'; '.join(each)}")
    return notes


def _notes_on_evaluations(runs: Sequence[Run]) -> list[str]:
    settings = [run.final.setting for run in runs if run.final is not None]
    keys = sorted(set().union(*settings) - set(_NOT_COMPARED))
    notes = []
    for key in keys:
        values = _different(key, settings)
        if len(values) > 1:
            notes.append(f"the final evaluations differ in {key}: {', '.join(values)}")
    return notes
