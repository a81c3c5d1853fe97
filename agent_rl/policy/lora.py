"""LoRA (arXiv 2106.09685): a low-rank adapter is trained in the place of the weights, and merged
into them to serve.

A run's base weights do not change, so a checkpoint holds the adapter beside the merged weights and
says where the base is; `resume_lora` puts the very same two together again.

    model/                             the merged weights: an ordinary Hugging Face folder
    model/adapter/                     the adapter in peft's format; base_model_name_or_path says
    where the base is
"""

import copy
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.model import LoraSettings

ADAPTER = "adapter"
_NAME, _WEIGHTS = "default", "adapter_model.safetensors"
_FINGERPRINT, _RELATIVE = "base_sha256", "base_relative"


def with_lora(
    model: PreTrainedModel, settings: LoraSettings, *, source: str, seed: int = 0
) -> PreTrainedModel:
    """Put a new adapter on a model: its A drawn from `seed`, its B zero, so that the policy is
    still the same.

    Args:
        model: changed in place: from now on nothing but the adapter's parameters requires a
        gradient.
        source: where the model was loaded from, for whoever needs its base again.

    Returns:
        A `PeftModel`, which has the model's own attributes too, except `base_model` (see
        `model.decoder_and_head`).

    Raises:
        ValueError: `target_modules` names no layer, or one that cannot have an adapter.
    """
    chosen = settings.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=chosen if isinstance(chosen, str) else list(chosen),
    )
    # Modules draw from torch's global generator: it is seeded for them and put back.
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)
        # peft warns that an adapter on tied embeddings needs care; such a one is refused below.
        warnings.simplefilter("ignore", UserWarning)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ValueError(
                f"model.lora.target_modules: {_listed(chosen)}: no adapter can be put there ({error}); the model's "
                f"linear layers are {_listed(_linear_layers(model))}"
            ) from error
    ends = {"input embedding": model.get_input_embeddings(), "head": model.get_output_embeddings()}  # type: ignore[no-untyped-call]
    for what, module in ends.items():
        if isinstance(module, BaseTunerLayer):
            raise ValueError(
                f"model.lora.target_modules: {_listed(chosen)} adapts the model's {what}, which can be one tensor with "
                "the other end of the model; name layers of the decoder, or use all-linear"
            )
    here = Path(source).expanduser()
    adapted.peft_config[_NAME].base_model_name_or_path = (
        str(here.resolve()) if here.exists() else source
    )
    return cast(PreTrainedModel, adapted)


def resume_lora(model: PreTrainedModel, settings: LoraSettings, folder: Path) -> PreTrainedModel:
    """Put the adapter of `folder` back on its base, bit for bit as it was saved.

    Args:
        model: what `base_of(folder)` names, loaded in the dtype that it had; changed in place.

    Raises:
        ValueError: the settings or the base are not those that the adapter was trained with.
    """
    config = LoraConfig.from_pretrained(str(folder))
    for key, saved in (("rank", config.r), ("alpha", config.lora_alpha)):
        if getattr(settings, key) != saved:
            raise ValueError(
                f"model.lora.{key}: {getattr(settings, key)} differs from the {saved} of the adapter in {folder}; set "
                "it back, or start a new run without --resume"
            )
    with safe_open(folder / _WEIGHTS, "pt") as file:
        recorded = file.metadata()
    source = str(config.base_model_name_or_path)
    if _fingerprint(_base_weights(model)) != recorded[_FINGERPRINT]:
        raise ValueError(
            f"{folder}: the model in {source} is not the one that this adapter was trained on, its weights have "
            f"changed; put the old one back, or start a new run from the merged weights, model.path={folder.parent}"
        )
    adapted = with_lora(model, settings, source=source)
    weights = load_file(folder / _WEIGHTS)
    expected = _adapter_weights(adapted)
    if {name: tensor.shape for name, tensor in weights.items()} != {
        n: t.shape for n, t in expected.items()
    }:
        raise ValueError(
            f"model.lora.target_modules: {_listed(settings.target_modules)} are not the layers of the adapter in "
            f"{folder} ({_listed(config.target_modules or ())}); set them back, or start a new run without --resume"
        )
    set_peft_model_state_dict(adapted, weights)
    return adapted


def base_of(folder: Path) -> str:
    """Where the base of a saved adapter is: as recorded, or, of a run folder that was moved, where
    it is now.
    """
    source = str(LoraConfig.from_pretrained(str(folder)).base_model_name_or_path)
    with safe_open(folder / _WEIGHTS, "pt") as file:
        moved = file.metadata().get(_RELATIVE)
    if moved and not Path(source).exists() and (folder / moved).exists():
        return str((folder / moved).resolve())
    return source


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapter of a model with one in peft's format, with a fingerprint of the base that
    it belongs to.
    """
    adapted = _peft(model)
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.copy(adapted.peft_config[_NAME])
    config.inference_mode = True
    config.save_pretrained(str(folder))
    metadata = {"format": "pt", _FINGERPRINT: _fingerprint(_base_weights(model))}
    source = str(config.base_model_name_or_path)
    if Path(source).exists():
        metadata[_RELATIVE] = os.path.relpath(source, folder.resolve())
    weights = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in _adapter_weights(model).items()
    }
    save_file(weights, folder / _WEIGHTS, metadata=metadata)


def has_adapter(model: PreTrainedModel) -> bool:
    """Whether `with_lora` was used on the model."""
    return isinstance(model, PeftModel)


def without_wrapper(model: PreTrainedModel) -> PreTrainedModel:
    """The transformers model itself; an adapter stays within its layers."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


@contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[None]:
    """Meanwhile the model computes what its base does. For passes without a gradient: the adapter
    is frozen as well.

    Raises:
        ValueError: the model has no adapter, so there is no base beside it.
    """
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"model {type(model).__name__}: has no adapter to switch off; set model.lora, or keep a copy of the model"
        )
    with model.disable_adapter():
        yield


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The model's weights by the names of the base: W + (alpha / rank) B A where there is an
    adapter.

    One at a time, each made when it is asked for: the model does not change, and no second one
    comes into being.
    """
    for name, tensor, layer in _named_weights(model):
        if layer is None:
            yield name, tensor
        else:
            delta = layer.get_delta_weight(_NAME)
            yield name, (tensor.to(delta.dtype) + delta).to(tensor.dtype)


def _base_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    return ((name, tensor) for name, tensor, _ in _named_weights(model))


def _named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor, Any]]:
    """The base's weights by its own names, each with the adapted layer that it is the weight of, or
    None.
    """
    inner = without_wrapper(model)
    adapted = {
        name: module for name, module in inner.named_modules() if isinstance(module, LoraLayer)
    }
    for name, tensor in inner.state_dict().items():
        owner, of_base, parameter = name.partition(".base_layer.")
        if of_base and owner in adapted:
            yield f"{owner}.{parameter}", tensor, adapted[owner] if parameter == "weight" else None
        elif not _parents(name) & adapted.keys():
            yield name, tensor, None


def _parents(name: str) -> set[str]:
    """The modules that a parameter is in, innermost and outermost."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _adapter_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    # False: otherwise peft asks the hub what the vocabulary of the base is.
    weights: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def _fingerprint(weights: Iterator[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(
            tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data
        )
    return digest.hexdigest()


def _peft(model: PreTrainedModel) -> PeftModel:
    assert isinstance(model, PeftModel), f"{type(model).__name__} has no adapter"
    return model


def _linear_layers(model: PreTrainedModel) -> list[str]:
    return sorted(
        {
            n.rpartition(".")[2]
            for n, module in model.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
    )


def _listed(names: Any) -> str:
    return names if isinstance(names, str) else ", ".join(sorted(names))
