"""Which runs belong together, what to call them, and what a reader has to know before comparing
them.
"""

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent_rl.commands.compare.runs import Run
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL
from agent_rl.config import ConfigError
from agent_rl.config.keys import HOW_NOT_WHAT, flat_values

Variants = Mapping[str, Sequence[Run]]
"""The runs of each variant by its label; its seeds in their order."""

_OF_ONE_RUN = ("seed", "run_folder")
_NOT_COMPARED = ("model", "weights", "rollout_step", "seed", "stage", "split", "splits")
"""Settings of an evaluation that may differ between runs without a word."""


def grouped(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, list[Run]]:
    """The variants: runs whose configs differ in nothing but the seed, the folder and
    `HOW_NOT_WHAT`.

    In the order in which they were given. `labels`: names for those whose folders' names fit a
    glob.

    Raises:
        ConfigError: a seed is there twice, or a label fits no variant, or more than one.
    """
    variants: list[list[Run]] = []
    for run in runs:
        same = next(
            (variant for variant in variants if _setting(variant[0]) == _setting(run)), None
        )
        if same is None:
            variants.append([run])
            continue
        for other in same:
            if other.config.seed == run.config.seed:
                raise ConfigError(
                    f"{other.path} and {run.path} have the same config and the same seed {run.config.seed}: they would "
                    "count as two seeds; name one of them"
                )
        same.append(run)
    names = _names(variants)
    for label, glob in labels.items():
        names[_fitting(variants, label, glob)] = label
    if len(set(names)) < len(names):
        raise ConfigError(f"--label: two variants have one name: {', '.join(names)}; give others")
    return {
        name: sorted(runs, key=lambda run: run.config.seed)
        for name, runs in zip(names, variants, strict=True)
    }


def differing(variants: Iterable[Sequence[Run]]) -> list[str]:
    """The dotted keys in which variants differ; the objective first."""
    settings = [_setting(runs[0]) for runs in variants]
    keys = {key for setting in settings for key in setting}
    found = [
        key
        for key in sorted(keys)
        if len({json.dumps(setting.get(key)) for setting in settings}) > 1
    ]
    return sorted(found, key=lambda key: key != "learner.objective")


def notes_on(variants: Variants) -> list[str]:
    """Sentences on what makes these runs less than alike: unfinished ones, seeds, evaluations."""
    return [
        *(note for label, runs in variants.items() for note in _notes_on_runs(label, runs)),
        *_notes_on_seeds(variants),
        *_notes_on_evaluations([run for runs in variants.values() for run in runs]),
    ]


def _setting(run: Run) -> dict[str, Any]:
    left_out = (*_OF_ONE_RUN, *HOW_NOT_WHAT)
    return {
        key: value
        for key, value in flat_values(run.config).items()
        if key not in left_out and key.partition(".")[0] != "sweep"
    }


def _names(variants: Sequence[Sequence[Run]]) -> list[str]:
    """What differs, in short: the objective's name, and other keys with their values where they are
    set.
    """
    keys = differing(variants)
    last = [key.rpartition(".")[2] for key in keys]
    short = {
        key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)
    }
    names = []
    for runs in variants:
        setting = _setting(runs[0])
        parts = [
            f"{short[key]}={_text(setting.get(key))}"
            for key in keys
            if setting.get(key) is not None
        ]
        names.append(
            ", ".join(part.removeprefix("objective=") for part in parts)
            or setting["learner.objective"]
        )
    return names


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _fitting(variants: Sequence[Sequence[Run]], label: str, glob: str) -> int:
    """The number of the variant whose runs' names fit the glob."""
    found = {
        i for i, runs in enumerate(variants) for run in runs if fnmatch.fnmatchcase(run.name, glob)
    }
    if len(found) == 1:
        return found.pop()
    if not found:
        names = ", ".join(run.name for runs in variants for run in runs)
        raise ConfigError(f"--label {label}={glob}: fits no run; there are: {names}")
    keys = ", ".join(differing([variants[i] for i in sorted(found)]))
    raise ConfigError(
        f"--label {label}={glob}: fits runs whose configs differ, in {keys}: they are no seeds of one"
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
                f"{run.name}: last evaluated after rollout step {run.evaluated_after} of {run.steps}"
            )
    values = [flat_values(run.config) for run in runs]
    if keys := [
        key for key in HOW_NOT_WHAT if len({json.dumps(value.get(key)) for value in values}) > 1
    ]:
        notes.append(
            f"{label}: its seeds differ in {', '.join(keys)}: this changes their time, and otherwise no more than the "
            "order of sums"
        )
    return notes


def _notes_on_seeds(variants: Variants) -> list[str]:
    seeds = {label: [run.config.seed for run in runs] for label, runs in variants.items()}
    notes = []
    if few := [label for label, of in seeds.items() if len(of) < SEEDS_FOR_INTERVAL]:
        notes.append(
            f"fewer than {SEEDS_FOR_INTERVAL} seeds: {', '.join(few)}; success over seeds has a range and no interval"
        )
    if len({tuple(of) for of in seeds.values()}) > 1:
        each = "; ".join(f"{label}: {', '.join(map(str, of))}" for label, of in seeds.items())
        notes.append(f"the variants have other seeds: {each}")
    return notes


def _notes_on_evaluations(runs: Sequence[Run]) -> list[str]:
    settings = [run.final.setting for run in runs if run.final is not None]
    keys = sorted({key for setting in settings for key in setting} - set(_NOT_COMPARED))
    notes = []
    for key in keys:
        values = list(dict.fromkeys(json.dumps(setting.get(key)) for setting in settings))
        if len(values) > 1:
            notes.append(f"the final evaluations differ in {key}: {', '.join(values)}")
    return notes
