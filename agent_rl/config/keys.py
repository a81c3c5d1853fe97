"""The dotted keys of a config: as flat values, without influence on results, renamed."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from agent_rl.config.config import Config

EXECUTION_KEYS = (
    "workers.count",
    "workers.envs_per_worker",
    "serving.deterministic",
    "serving.max_concurrent",
    "serving.kv_cache_gib",
    "serving.gpu_memory_utilization",
    "serving.threads",
    "learner.threads",
    "learner.ranks",
    "learner.micro_batch_tokens",
    "learner.logit_chunk",
    "learner.activation_checkpointing",
    "learner.device",
    "train.checkpoint_every",
    "train.keep_checkpoints",
    "train.keep_trajectories",
    "train.keep_token_records",
)
"""Keys that say how a run is computed. They change results only by the order of float sums."""

UNCOMPARED_SECTIONS = ("tracking",)
"""Sections that say nothing of how a run is computed: runs that differ in them are alike."""

RUN_CONFIG = "config.yaml"
"""The config that a run records in its folders."""
EXPORTED_CONFIG = "agent_rl.yaml"
"""The config in an exported policy's folder."""

RENAMED_KEYS = {
    "sft.reading_epochs": "sft.observation_epochs",
    "learner.step_discount": "learner.turn_discount",
    "learner.step_advantage_weight": "learner.turn_advantage_weight",
}
"""Old keys and their present names, both dotted."""

_QUANTISED = (
    "the weights that an adapter leaves frozen are kept whole: quantised ones need a GPU and a "
    "library (bitsandbytes, torchao) that was never run here; remove it, and share the model out "
    "with learner.ranks if it is too large"
)
ABSENT_KEYS = {
    f"{section}.{key}": _QUANTISED
    for section in ("model", "model.lora", "learner", "serving")
    for key in ("load_in_8bit", "load_in_4bit", "quantization", "quantization_config")
}
"""Keys that other programs have and this one lacks, both dotted, and what to do instead."""

RENAMED_VALUES: dict[str, dict[str, str]] = {
    "learner.advantage": {"step_groups": "turn_groups", "step_weighted": "turn_weighted"},
}
"""By dotted key (the present one): old values and their present names."""

RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "alfworld": {"renamed": "entity_permutations"},
}
"""By the id of an environment: old names of its options and their present names."""


def upgraded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a recorded config's values under their present names.

    Values that are not recorded under an old name stay as they are, right or wrong.

    >>> upgraded({"sft": {"reading_epochs": 2, "epochs": 3}})
    {'sft': {'epochs': 3, 'observation_epochs': 2}}
    """
    present = deepcopy(dict(values))
    for old, new in RENAMED_KEYS.items():
        _rename(present, old, new)
    # After the keys: a renamed value is listed under its present key.
    for key, names in RENAMED_VALUES.items():
        _replace(present, key, names)
    env_id = _section(present, ["env"]).get("id", Config.model_fields["env"].default.id)
    options = _section(present, ["env", "options"])
    if options:
        present["env"]["options"] = upgraded_options(str(env_id), options)
    return present


def upgraded_options(env_id: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded options of an environment under their present names.

    >>> upgraded_options("alfworld", {"renamed": 5, "expert": True})
    {'entity_permutations': 5, 'expert': True}
    """
    names = RENAMED_OPTIONS.get(env_id, {})
    return {names.get(name, name): value for name, value in options.items()}


def flat_values(config: Config) -> dict[str, Any]:
    """Return a config's values by their dotted keys."""
    return dict(_leaves("", config.model_dump(mode="json")))


def changed_values(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys whose values differ, with both.

    `EXECUTION_KEYS` and `UNCOMPARED_SECTIONS` do not count.

    >>> changed_values({"seed": 0, "train.eval_every": 5}, {"seed": 1, "train.eval_every": 5})
    {'seed': (0, 1)}
    """
    changes = {}
    for key in sorted({*was, *now} - {*EXECUTION_KEYS}):
        compared = key.partition(".")[0] not in UNCOMPARED_SECTIONS
        if compared and was.get(key) != now.get(key):
            changes[key] = (was.get(key), now.get(key))
    return changes


def _section(values: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """The mapping at `path`; an empty one if there is none."""
    for name in path:
        values = values.get(name) or {}
        if not isinstance(values, dict):
            return {}
    return values


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    """Move a value, in place, from its old key to the new one, if it is there."""
    *old_path, old_name = old.split(".")
    section = _section(values, old_path)
    if old_name not in section:
        return
    value = section.pop(old_name)
    *new_path, new_name = new.split(".")
    for name in new_path:
        values = values.setdefault(name, {})
    values[new_name] = value


def _replace(values: dict[str, Any], key: str, names: Mapping[str, str]) -> None:
    """Replace the value at `key`, in place, if it is one of the old `names`."""
    *path, last = key.split(".")
    section = _section(values, path)
    if isinstance(section.get(last), str):
        section[last] = names.get(section[last], section[last])


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The dotted keys and values within `value`; an empty mapping is itself a value."""
    if not isinstance(value, dict) or not value:
        yield prefix.removesuffix("."), value
        return
    for key, inner in value.items():
        yield from _leaves(f"{prefix}{key}.", inner)
