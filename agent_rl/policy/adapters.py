"""Adapters that any program wrote (PEFT): put on their base, to be trained on or merged into it.

Those of a run's own checkpoints are in `agent_rl.policy.lora`.
"""

import warnings
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import PreTrainedModel

from agent_rl.config import ConfigError
from agent_rl.config.model import LoraSettings
from agent_rl.policy.lora import (
    WEIGHTS,
    adapter_weights,
    require_same_base,
    shapes_of,
    sizes_in,
    with_saved,
)
from agent_rl.policy.refusals import explained

_SAID = (
    *("r", "lora_alpha", "target_modules", "exclude_modules", "lora_dropout", "task_type"),
    *("peft_type", "peft_version", "auto_mapping", "base_model_name_or_path", "revision"),
    *("inference_mode", "layers_to_transform", "layers_pattern"),
)
"""The keys of an adapter's config that settings say, or that its weights show."""
_NULL = "null trains all weights, with the adapter merged in"


def continue_lora(model: PreTrainedModel, settings: LoraSettings, folder: Path) -> PreTrainedModel:
    """Put an adapter that any program wrote (PEFT) on its base, to train it on.

    Args:
        model: the model at `base_of(folder)`; is changed in place.
        settings: must describe the adapter.
        folder: the adapter.

    Raises:
        ConfigError: they do not, or no settings could; or the base is another one.
    """
    config = LoraConfig.from_pretrained(str(folder))
    strange = _beyond_settings(config)
    if strange:
        raise ConfigError(
            f"model.lora: the adapter in {folder} has {', '.join(strange)} in its config, and such "
            f"adapters are not trained on; {_NULL}"
        )
    ours, saved = (settings.rank, settings.alpha), sizes_in(config)
    described = f"{{rank: {saved['rank']}, alpha: {saved['alpha']}, {_targets(folder)}}}"
    go_on = f"write {described} to train that adapter on; {_NULL}"
    if ours != (saved["rank"], saved["alpha"]):
        raise ConfigError(
            f"model.lora: rank {ours[0]} and alpha {ours[1]} are not those of the adapter in "
            f"{folder}; {go_on}"
        )
    require_same_base(model, folder, f"set model.lora to null, as {_NULL}")
    return with_saved(model, settings, folder, go_on)


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Merge an adapter that any program wrote (PEFT) into its base.

    Args:
        model: the model at `base_of(folder)`; is changed in place.
        folder: the adapter.

    Raises:
        ValueError: the adapter does not fit the base, or its files do not fit together.
    """
    require_same_base(model, folder, "name the right one in base_model_name_or_path")
    with explained(str(folder), ""), warnings.catch_warnings():
        # peft warns about weights that are missing, which is refused below.
        warnings.simplefilter("ignore", UserWarning)
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
    if shapes_of(load_file(folder / WEIGHTS)) != shapes_of(adapter_weights(adapted)):
        raise ConfigError(
            f"model {folder}: {WEIGHTS} has not the weights that adapter_config.json describes; "
            "put the two files together that belong together"
        )
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged.requires_grad_(True)


def _beyond_settings(config: Any) -> list[str]:
    """The keys of an adapter's `LoraConfig` that no `LoraSettings` can say, with their values."""
    default: Any = LoraConfig()
    plain = default.to_dict()
    return [
        f"{key}: {value}"
        for key, value in config.to_dict().items()
        if key not in _SAID and value and value not in (plain.get(key), "gaussian")
    ]


def _targets(folder: Path) -> str:
    """The layers of an adapter as `target_modules` names them."""
    # q_proj of ...self_attn.q_proj.lora_A.weight; a config may hold a pattern instead of names.
    layers = {name.partition(".lora_")[0] for name in load_file(folder / WEIGHTS)}
    names = sorted({layer.rpartition(".")[2] for layer in layers})
    return f"target_modules: [{', '.join(names)}]"
