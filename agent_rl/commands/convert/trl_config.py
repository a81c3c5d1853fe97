"""Translates TRL's GRPOConfig or GMPOConfig into our keys, and says what became of each key.

The trainer's model, rewards and environment are arguments of TRL's trainers and in no config, so
`model`, `env` and `prompt` stay for the user to set.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from agent_rl.commands.convert.trl_keys import (
    GMPO_DEFAULTS,
    GRPO_DEFAULTS,
    HOUSEKEEPING,
    NEUTRAL,
    UNUSED_BY_GMPO,
)
from agent_rl.config import Config, ConfigError, explain
from envs.nearest import hint

Trainer = Literal["gmpo", "grpo"]

_COPIED = {
    "learning_rate": "learner.learning_rate",
    "weight_decay": "learner.weight_decay",
    "beta": "learner.beta",
    "seed": "seed",
    "num_generations": "train.num_generations",
    "temperature": "train.temperature",
    "gradient_checkpointing": "learner.activation_checkpointing",
    "output_dir": "run_folder",
    "save_total_limit": "train.keep_checkpoints",
    "vllm_gpu_memory_utilization": "serving.gpu_memory_utilization",
    "vllm_max_model_length": "serving.context_length",
    "vllm_tensor_parallel_size": "serving.tensor_parallel",
    "vllm_enable_sleep_mode": "serving.sleep",
    "chat_template_kwargs": "prompt.template_options",
}
"""Keys that mean the same here."""

_SIZES = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
)
_COUNTS = {*_SIZES, "num_generations", "num_iterations"}
_NUMBERS = {
    "warmup_steps",
    "max_steps",
    "save_steps",
    "num_train_epochs",
    "max_grad_norm",
    "epsilon",
    "epsilon_high",
}
_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_SCHEDULES = {"constant_with_warmup": "constant"} | {
    name: name for name in ("constant", "linear", "cosine")
}
_LOSSES: dict[str, dict[str, str]] = {
    "grpo": {"objective": "grpo"},
    "dapo": {"objective": "grpo", "normalisation": "token"},
    "bnpo": {"objective": "grpo", "normalisation": "token"},
    "dr_grpo": {"objective": "dr_grpo"},
    "cispo": {"objective": "cispo"},
}
_ADVANTAGES = {"group": "group_std", "none": "group_mean"}
_CORRECTIONS = {
    "token_truncate": ("token", "importance_cap"),
    "token_mask": ("token", "importance_mask"),
    "sequence_truncate": ("sequence", "importance_cap"),
    "sequence_mask": ("sequence", "importance_mask"),
}


@dataclass
class Conversion:
    """Our settings, and the account of theirs."""

    values: dict[str, Any] = field(default_factory=dict)
    """The sections of our config."""
    taken: list[str] = field(default_factory=list)
    """A line for each key that became one of ours."""
    lost: list[str] = field(default_factory=list)
    """A line for each key that changes the training and could not be translated."""
    idle: list[str] = field(default_factory=list)
    """Keys that change nothing of the training, with the reason."""

    def take(self, key: str, ours: str, value: Any, note: str = "") -> None:
        """Set one of our keys for one of theirs."""
        *sections, last = ours.split(".")
        place = self.values
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
        self.taken.append(f"{key} -> {ours}: {value}" + (f" ({note})" if note else ""))


def read_trl_config(path: Path) -> dict[str, Any]:
    """Return the keys of a JSON or YAML file.

    Raises:
        ConfigError: it is missing, or no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; give the JSON or YAML of a TRL config")
    try:
        text = path.read_text()
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid {path.suffix or 'YAML'}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a TRL config is a mapping of keys, this is {type(values).__name__}"
        )
    return {str(key): _number(value) for key, value in values.items()}


def convert(path: Path, trainer: Trainer, *, processes: int = 1) -> Conversion:
    """Translate a file.

    Args:
        trainer: whose config it is; nothing in the file says it.
        processes: of TRL's run; the sizes in its config are per process.

    Raises:
        ConfigError: it cannot be read, or its values make no config of ours.
    """
    given = read_trl_config(path)
    defaults = GMPO_DEFAULTS if trainer == "gmpo" else GRPO_DEFAULTS
    result = Conversion()
    theirs = {**defaults, **given}
    result.take("the trainer", "learner.objective", trainer)
    result.take("the trainer", "prompt.format", "chat", "TRL uses chat templates")
    result.values["run_folder"] = "runs/from-trl"
    try:
        _check_types(theirs)
        known = _translate(theirs, trainer, processes, result)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    for key in given:
        if key not in known:
            _say_untranslated(key, given[key], known, result)
    said = set(re.findall(r"\w+", "\n".join([*result.taken, *result.lost, *result.idle])))
    result.idle += [f"{k}: {given[k]} has no effect beside the others" for k in set(given) - said]
    try:
        Config.model_validate(result.values)
    except ValidationError as error:
        raise ConfigError(explain(path, error)) from error
    return result


def account(result: Conversion, *, trainer: Trainer) -> str:
    """Return what became of each key, as lines of text."""
    config = "GMPOConfig" if trainer == "gmpo" else "GRPOConfig"
    lines = [f"Read as TRL's {config} (--trainer); its defaults count too.", "", "Translated:"]
    lines += [f"  {line}" for line in result.taken]
    lines += ["", "NOT translated, though it changes the training:" if result.lost else ""]
    lines += [f"  {line}" for line in result.lost]
    if result.idle:
        lines += ["", "Without effect on what is learned:"]
        lines += [f"  {line}" for line in sorted(result.idle)]
    lines += ["", "Not in a TRL config: set model.path, env and prompt yourself."]
    return "\n".join(
        line for line, before in zip(lines, ["", *lines], strict=False) if line or before
    )


def _check_types(theirs: Mapping[str, Any]) -> None:
    for key, value in theirs.items():
        if key in _COUNTS or key in _NUMBERS:
            if value is None and key not in GRPO_DEFAULTS:
                continue
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(f"{key}: {value!r} is no number")
            if key in _COUNTS and (value < 1 or value != int(value)):
                raise ValueError(f"{key}: {value!r} is no whole number from 1")
        elif key in GRPO_DEFAULTS and isinstance(value, list | dict):
            raise ValueError(f"{key}: {value!r} is a {type(value).__name__}, not one value")


def _translate(
    theirs: Mapping[str, Any], trainer: Trainer, processes: int, result: Conversion
) -> set[str]:
    """Fill `result`, and return the keys that it accounts for."""
    known = set(_COPIED)
    for key, ours in _COPIED.items():
        if theirs.get(key) is not None:
            result.take(key, ours, theirs[key])
    known |= _take_optimizer(theirs, result)
    known |= _take_sizes(theirs, processes, result)
    known |= _take_objective(theirs, trainer, result)
    known |= _take_correction(theirs, trainer, result)
    length = theirs["max_completion_length"]
    if length is not None:
        note = "of one action; in TRL of all actions of an episode"
        result.take("max_completion_length", "episode.max_action_tokens", length, note)
    kwargs = theirs.get("generation_kwargs")
    if isinstance(kwargs, dict) and list(kwargs) == ["stop"]:
        stop = kwargs["stop"]
        result.take("generation_kwargs", "prompt.stop", [stop] if isinstance(stop, str) else stop)
        known.add("generation_kwargs")
    return known | {"max_completion_length"}


def _take_optimizer(theirs: Mapping[str, Any], result: Conversion) -> set[str]:
    betas = [theirs["adam_beta1"], theirs["adam_beta2"]]
    result.take("adam_beta1, adam_beta2", "learner.betas", betas)
    schedule = theirs["lr_scheduler_type"]
    if schedule in _SCHEDULES:
        result.take("lr_scheduler_type", "learner.schedule", _SCHEDULES[schedule])
    else:
        result.lost.append(f"lr_scheduler_type: {schedule}; ours are constant, linear, cosine")
    warmup = theirs["warmup_steps"]
    if warmup >= 1 or warmup == 0:
        result.take("warmup_steps", "learner.warmup_steps", int(warmup))
    else:
        result.lost.append(f"warmup_steps: {warmup}; set learner.warmup_steps in optimizer steps")
    if theirs["max_grad_norm"]:
        result.take("max_grad_norm", "learner.max_grad_norm", theirs["max_grad_norm"])
    else:
        result.take("max_grad_norm", "learner.max_grad_norm", 1e9, "0 is off in TRL")
    optim = str(theirs.get("optim", "adamw_torch"))
    if not optim.startswith("adamw"):
        result.lost.append(f"optim: {optim}; ours are AdamW and Muon")
    elif "optim" in theirs:
        result.idle.append(f"optim: {optim} is AdamW, as ours")
    bf16 = theirs.get("bf16")
    dtype = "bfloat16" if bf16 or (bf16 is None and not theirs.get("fp16")) else "float32"
    result.take("bf16", "learner.dtype", dtype)
    return {
        "adam_beta1",
        "adam_beta2",
        "lr_scheduler_type",
        "warmup_steps",
        "max_grad_norm",
        "optim",
        "bf16",
    }


def _take_sizes(theirs: Mapping[str, Any], processes: int, result: Conversion) -> set[str]:
    """Batch sizes, and the numbers of steps, which TRL counts in optimizer steps."""
    batch = theirs["per_device_train_batch_size"] * processes
    accumulated, group = theirs["gradient_accumulation_steps"], theirs["num_generations"]
    steps = theirs.get("steps_per_generation") or accumulated
    if theirs.get("generation_batch_size"):
        steps = theirs["generation_batch_size"] // batch
    steps = max(steps, accumulated)
    episodes, optimizer_steps = batch * steps, steps // accumulated
    if episodes % group or steps % accumulated:
        raise ValueError(
            f"{episodes} completions ({batch} in {processes} processes, times {steps}) are not "
            f"whole groups of num_generations: {group}, or not whole optimizer steps of "
            f"gradient_accumulation_steps: {accumulated}; give --processes as in TRL's run"
        )
    note = f"{processes} processes, {episodes} episodes a rollout step"
    result.take(", ".join(_SIZES), "train.tasks_per_step", episodes // group, note)
    result.take(", ".join(_SIZES[1:]), "learner.optimizer_steps", optimizer_steps)
    per_rollout = optimizer_steps * theirs["num_iterations"]
    last = theirs.get("max_steps")
    if last is not None and last > 0:
        rollouts = max(1, round(last / per_rollout))
        note = f"{last} optimizer steps"
        result.take("max_steps", "train.rollout_steps", rollouts, note)
        if "num_train_epochs" in theirs:
            result.idle.append("num_train_epochs: max_steps decides")
    else:
        epochs = theirs.get("num_train_epochs") or 3.0
        result.lost.append(
            f"num_train_epochs: {epochs}; set train.rollout_steps to it times your tasks, by "
            f"{episodes // group} tasks a rollout step"
        )
    every = theirs.get("save_steps")
    if every is not None and every >= 1:
        note = f"{every} optimizer steps"
        result.take(
            "save_steps", "train.checkpoint_every", max(1, round(every / per_rollout)), note
        )
    elif every is not None:
        result.lost.append(f"save_steps: {every}; set train.checkpoint_every in rollout steps")
    return {*_SIZES, "max_steps", "save_steps", "num_train_epochs"}


def _take_objective(theirs: Mapping[str, Any], trainer: Trainer, result: Conversion) -> set[str]:
    scale = {True: "group", False: "none"}.get(theirs["scale_rewards"], theirs["scale_rewards"])
    if scale in _ADVANTAGES:
        result.take("scale_rewards", "learner.advantage", _ADVANTAGES[scale])
    else:
        result.lost.append(
            f"scale_rewards: {scale}; no advantage of ours divides by the std of a whole batch"
        )
    low, high = theirs["epsilon"], theirs.get("epsilon_high")
    known = {"scale_rewards", "epsilon", "epsilon_high"}
    if trainer == "gmpo":
        note = "of the log-ratio, as there"
        result.take("epsilon", "learner.epsilon", low, note)
        result.take("epsilon_high", "learner.epsilon_high", low if high is None else high, note)
        for key in sorted(UNUSED_BY_GMPO & set(theirs)):
            result.idle.append(f"{key}: GMPOTrainer does not use it")
        return known | UNUSED_BY_GMPO
    _take_loss(theirs, result)
    if theirs["loss_type"] == "cispo":
        # TRL's is the largest weight itself, ours is counted from 1. TRL has no lower bound.
        bound = (low if high is None else high) - 1.0
        result.take("epsilon_high", "learner.epsilon_high", bound, "the largest weight less 1")
        result.take("epsilon", "learner.epsilon", 1.0, "no lower bound, as there")
    else:
        result.take("epsilon", "learner.epsilon", low)
        result.take("epsilon_high", "learner.epsilon_high", low if high is None else high)
    if theirs.get("delta") is not None:
        result.take("delta", "learner.clip_c", theirs["delta"])
    if theirs.get("entropy_coef"):
        result.take("entropy_coef", "learner.entropy_bonus", theirs["entropy_coef"])
    if theirs.get("off_policy_mask_threshold") is not None:
        threshold = theirs["off_policy_mask_threshold"]
        result.take("off_policy_mask_threshold", "learner.off_policy_mask", threshold)
    if theirs["beta"] and theirs.get("use_bias_correction_kl", True):
        result.lost.append("use_bias_correction_kl: true (TRL's default); ours weighs no KL term")
    elif "use_bias_correction_kl" in theirs:
        result.idle.append("use_bias_correction_kl: off, or without beta")
    return known | {
        "loss_type",
        "importance_sampling_level",
        "delta",
        "entropy_coef",
        "off_policy_mask_threshold",
        "use_bias_correction_kl",
    }


def _take_loss(theirs: Mapping[str, Any], result: Conversion) -> None:
    loss, level = theirs["loss_type"], theirs["importance_sampling_level"]
    if loss not in _LOSSES:
        result.lost.append(f"loss_type: {loss}; ours is grpo here, see docs/objectives.md")
    for ours, value in _LOSSES.get(loss, {}).items():
        note = "of the whole optimizer step, not of each micro-batch" if loss == "bnpo" else ""
        result.take("loss_type", f"learner.{ours}", value, note)
    if loss == "dr_grpo":
        length = theirs["max_completion_length"]
        result.take("loss_type", "learner.normalisation_length", length)
    if level == "sequence":
        result.take("importance_sampling_level", "learner.aggregation", "sequence")
    elif level != "token":
        result.lost.append(f"importance_sampling_level: {level}; ours are token and sequence")


def _take_correction(theirs: Mapping[str, Any], trainer: Trainer, result: Conversion) -> set[str]:
    """The weights for the sampler's mismatch."""
    on = theirs.get("use_vllm", False) and theirs.get("vllm_importance_sampling_correction", True)
    if trainer == "gmpo" or not on:
        note = "TRL drops these weights in GMPO" if trainer == "gmpo" else "no weights there"
        result.take("use_vllm", "learner.importance", "none", note)
    else:
        mode = theirs.get("vllm_importance_sampling_mode", "sequence_mask")
        most = theirs.get("vllm_importance_sampling_cap")
        if most is None:
            most = theirs.get("vllm_importance_sampling_clip_max", 3.0)
        if mode not in _CORRECTIONS:
            result.lost.append(f"vllm_importance_sampling_mode: {mode}")
        else:
            level, key = _CORRECTIONS[mode]
            result.take("vllm_importance_sampling_mode", "learner.importance", level)
            note = "ours also masks below its inverse" if key == "importance_mask" else ""
            result.take("vllm_importance_sampling_clip_max", f"learner.{key}", most or 0.0, note)
            if key == "importance_mask":
                result.take("vllm_importance_sampling_mode", "learner.importance_cap", 0.0)
    return {
        "use_vllm",
        "vllm_importance_sampling_correction",
        "vllm_importance_sampling_mode",
        "vllm_importance_sampling_clip_max",
        "vllm_importance_sampling_cap",
    }


def _say_untranslated(key: str, value: Any, known: set[str], result: Conversion) -> None:
    if key in NEUTRAL:
        if value in NEUTRAL[key]:
            result.idle.append(f"{key}: {value} changes nothing")
        else:
            result.lost.append(f"{key}: {value}; we have no such setting")
    elif key in HOUSEKEEPING:
        result.idle.append(f"{key}: no counterpart")
    else:
        near = hint(key, [*known, *NEUTRAL, *HOUSEKEEPING])
        question = near if "did you mean" in near else ""
        result.lost.append(f"{key}: {value}; not a key of TRL 1.16's config{question}")


def _number(value: Any) -> Any:
    """Return the number that YAML reads as text, such as 1e-6; other values as they are."""
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value
