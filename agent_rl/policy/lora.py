"""LoRA (arXiv 2106.09685): train a low-rank adapter in place of the weights, merge it to serve.

The base weights of a run do not change. A checkpoint holds the merged weights and the adapter. The
adapter records where its base is; `resume_lora` puts the two together again, bit for bit.

    model/            the merged weights: an ordinary Hugging Face folder
    model/adapter/    the adapter in peft's format; base_model_name_or_path is its base
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
from agent_rl.policy.folder import BASE_RELATIVE, base_of
from agent_rl.policy.unread import as_if_read, unread_weights
from agent_rl.policy.weight_file import Form
from agent_rl.policy.whole import is_first, whole, whole_weights

ADAPTER = "adapter"
"""The adapter's folder, within the folder of the merged weights."""

_NAME = "default"
"""The name that peft gives an adapter."""
WEIGHTS = "adapter_model.safetensors"
"""The file of its weights."""
_FINGERPRINT = "base_sha256"
"""The key of the weights' metadata for the base's fingerprint."""


def with_lora(
    model: PreTrainedModel,
    settings: LoraSettings,
    *,
    source: str,
    revision: str = "",
    seed: int = 0,
) -> PreTrainedModel:
    """Put a new adapter on a model. Its B is zero, so the policy does not change yet.

    Args:
        model: is changed in place: only the adapter's parameters require a gradient from now on.
        settings: the adapter's size, scale and layers.
        source: where the model was loaded from; it is recorded as the adapter's base.
        revision: of a hub model, as in `load_policy`; it is recorded too.
        seed: decides the adapter's A.

    Returns:
        A `PeftModel`. It has the model's attributes too, except `base_model`: use
        `decoder_and_head`.

    Raises:
        ValueError: `target_modules` names no layer, or one that cannot have an adapter.
    """
    targets, layers = settings.target_modules, _linear_layers(model)
    if targets == "all-linear" and any(weight.dim() == 3 for weight in model.parameters()):
        # peft would count experts among the linear layers, and they have no adapters here.
        head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        targets = tuple(name for name in layers if getattr(model, name, None) is not head)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        revision=revision or None,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    # Modules draw their weights from torch's global generator: seed it for them, then restore it.
    with torch.random.fork_rng(), warnings.catch_warnings(), as_if_read(model):
        torch.manual_seed(seed)
        # peft warns about an adapter on tied embeddings; such an adapter is refused below.
        # It warns of experts that it adapts, too; so is such an adapter.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            adapted = get_peft_model(model, config)
        except ValueError as error:
            raise ValueError(
                f"model.lora.target_modules: {layer_names(targets)}: no adapter can be put there "
                f"({error}); the model's linear layers are {layer_names(layers)}"
            ) from error
    _refuse_embeddings(model, targets)
    _refuse_experts(adapted, targets, layers)
    path = Path(source).expanduser()
    base = str(path.resolve()) if path.exists() else source
    adapted.peft_config[_NAME].base_model_name_or_path = base
    return cast(PreTrainedModel, adapted)


def resume_lora(model: PreTrainedModel, settings: LoraSettings, folder: Path) -> PreTrainedModel:
    """Put the adapter of a checkpoint back on its base, bit for bit.

    Args:
        model: the model at `base_of(folder)`, in its dtype at the save; is changed in place.
        settings: the adapter's settings, which must be those it was trained with.
        folder: the adapter, as `save_adapter` wrote it.

    Raises:
        ValueError: the settings or the base are not those that the adapter was trained with.
    """
    again = "set it back, or start a new run without --resume"
    for key, saved in sizes_in(LoraConfig.from_pretrained(str(folder))).items():
        if getattr(settings, key) != saved:
            raise ValueError(
                f"model.lora.{key}: {getattr(settings, key)} differs from the {saved} of the "
                f"adapter in {folder}; {again}"
            )
    require_same_base(
        model, folder, f"start a new run from the merged weights, model.path={folder.parent}"
    )
    return with_saved(model, settings, folder, again)


def with_saved(
    model: PreTrainedModel, settings: LoraSettings, folder: Path, way_out: str
) -> PreTrainedModel:
    """Put a saved adapter with these settings on its base; see `with_lora`.

    Args:
        way_out: ends the message if the settings name other layers.

    Raises:
        ValueError: they do.
    """
    config = LoraConfig.from_pretrained(str(folder))
    source, revision = base_of(folder)
    adapted = with_lora(model, settings, source=source, revision=revision)
    weights = load_file(folder / WEIGHTS)
    if shapes_of(weights) != shapes_of(adapter_weights(adapted)):
        raise ValueError(
            f"model.lora.target_modules: {layer_names(settings.target_modules)} are not the layers "
            f"of the adapter in {folder} ({layer_names(config.target_modules or ())}); {way_out}"
        )
    set_peft_model_state_dict(adapted, weights)
    return adapted


def require_same_base(model: PreTrainedModel, folder: Path, way_out: str) -> None:
    """Raise ValueError if a model is not the one that a saved adapter was trained on.

    Adapters of other programs do not record it. Then nothing is known, and nothing refused.

    Args:
        way_out: ends the message.
    """
    with safe_open(folder / WEIGHTS, "pt") as file:
        recorded = (file.metadata() or {}).get(_FINGERPRINT)
    if recorded not in (None, _fingerprint(model)):
        source, _ = base_of(folder)
        raise ValueError(
            f"{folder}: the model in {source} is not the one that this adapter was trained on, its "
            f"weights have changed; put the old one back, or {way_out}"
        )


def sizes_in(config: LoraConfig) -> dict[str, int]:
    """Return the rank and the scale of an adapter, by their keys in `LoraSettings`."""
    return {"rank": config.r, "alpha": config.lora_alpha}


def shapes_of(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    """Return the shape of each weight, by name."""
    return {name: tensor.shape for name, tensor in weights.items()}


def layer_names(names: Any) -> str:
    """Write the names of layers, or what stands for them."""
    return names if isinstance(names, str) else ", ".join(sorted(names))


def save_adapter(model: PreTrainedModel, folder: Path) -> None:
    """Write a model's adapter in peft's format, with a fingerprint of its base.

    All processes that share the model call this.
    """
    metadata = {"format": "pt", _FINGERPRINT: _fingerprint(model)}
    weights = whole_weights(adapter_weights(model).items())
    if not is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_adapter_config(model, folder)
    source = str(_peft(model).peft_config[_NAME].base_model_name_or_path)
    if Path(source).exists():
        metadata[BASE_RELATIVE] = os.path.relpath(source, folder.resolve())
    save_file(weights, folder / WEIGHTS, metadata=metadata)


def has_adapter(model: PreTrainedModel) -> bool:
    """Return whether the model has an adapter."""
    return isinstance(model, PeftModel)


def without_wrapper(model: PreTrainedModel) -> PreTrainedModel:
    """Return the transformers model itself; an adapter stays within its layers."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


@contextmanager
def adapter_off(model: PreTrainedModel) -> Iterator[None]:
    """Let the model compute like its base within a `with` block.

    Only for passes without gradient, because it also freezes the adapter.

    Raises:
        ValueError: the model has no adapter, so its base is gone.
    """
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"model {type(model).__name__}: has no adapter to switch off; set model.lora, or keep "
            "a copy of the model"
        )
    with model.disable_adapter():
        yield


def base_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of the model without its adapter, under the base's names."""
    for name, tensor, _ in _named_weights(model):
        yield name, tensor


def adapter_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of the model's adapter under peft's names.

    If processes share the model, each returns its slices.
    """
    # With the default, peft asks the hub for the base's vocabulary.
    weights: dict[str, Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return weights


def save_adapter_config(model: PreTrainedModel, folder: Path) -> None:
    """Write the adapter's config in peft's format."""
    config = copy.copy(_peft(model).peft_config[_NAME])
    config.inference_mode = True
    config.save_pretrained(str(folder))


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the model's weights under the base's names: W + (alpha / rank) B A if adapted, else W.

    Each one is computed when it is asked for. So the model does not change, and there is never a
    second whole model in memory. If processes share the model, each yields its slices.
    """
    for name, tensor, layer in _named_weights(model):
        if layer is None:
            yield name, tensor
        else:
            delta = layer.get_delta_weight(_NAME)
            yield name, (tensor.to(delta.dtype) + delta).to(tensor.dtype)


def weight_forms(model: PreTrainedModel) -> dict[str, Form]:
    """Return dtype and shape of what `merged_weights` yields; tied weights under the first name."""
    first_names: dict[int, str] = {}
    forms: dict[str, Form] = {}
    for name, tensor, _ in _named_weights(model):
        if first_names.setdefault(id(tensor), name) == name:
            forms[name] = tensor.dtype, tensor.shape
    return forms


def _named_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor, Any]]:
    """The base's weights under its own names, each with its adapted layer or None.

    peft wraps an adapted layer `q_proj` and renames its weight: `q_proj.base_layer.weight`. The
    adapter's own weights, such as `q_proj.lora_A.default.weight`, are within the layer too.
    """
    inner = without_wrapper(model)
    adapted = {
        name: module for name, module in inner.named_modules() if isinstance(module, LoraLayer)
    }
    for name, tensor in inner.state_dict(keep_vars=True).items():
        owner, of_base, parameter = name.partition(".base_layer.")
        if of_base and owner in adapted:
            layer = adapted[owner] if parameter == "weight" else None
            yield f"{owner}.{parameter}", tensor, layer
        elif not _parents(name) & adapted.keys():
            yield name, tensor, None


def _parents(name: str) -> set[str]:
    """The modules that a parameter is in: of `a.b.weight`, `a` and `a.b`."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def _refuse_embeddings(model: PreTrainedModel, targets: Any) -> None:
    """Raise if an adapter is on an end of the model, which may be one tensor with the other end."""
    ends = {
        "input embedding": model.get_input_embeddings(),
        "head": model.get_output_embeddings(),  # type: ignore[no-untyped-call]
    }
    for end, module in ends.items():
        if isinstance(module, BaseTunerLayer):
            raise ValueError(
                f"model.lora.target_modules: {layer_names(targets)} adapts the model's {end}, "
                "which can be one tensor with the other end of the model; name layers of the "
                "decoder, or use all-linear"
            )


def _refuse_experts(adapted: Any, targets: Any, layers: list[str]) -> None:
    """Raise if an adapter is on experts or a router: peft knows their names in files, too."""
    if getattr(adapted.peft_config[_NAME], "target_parameters", None):
        raise ValueError(
            f"model.lora.target_modules: {layer_names(targets)} adapts experts or their router, "
            f"which is not possible here; name layers of {layer_names(layers)}, use all-linear, "
            "or train all weights without model.lora"
        )


def _fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of the base's weights, whatever their order.

    Weights that are still in their files are read for it, one at a time.
    """
    digest, unread = hashlib.sha256(), unread_weights(model)
    named = {name: tensor for name, tensor, _ in _named_weights(model)}
    for name in sorted(named):
        tensor = named[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        tensor = unread.read(name, tensor.dtype) if unread else whole(tensor.detach())
        # numpy has no bfloat16, so the bytes are read as uint8.
        flat = tensor.to("cpu").contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _peft(model: PreTrainedModel) -> PeftModel:
    assert isinstance(model, PeftModel), f"{type(model).__name__} has no adapter"
    return model


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """The last parts of the names of the model's linear layers, such as `q_proj`."""
    names = set()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            names.add(name.rpartition(".")[2])
    return sorted(names)
