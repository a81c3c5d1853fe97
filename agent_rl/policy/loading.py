"""Loads and saves a policy: a causal language model and its tokenizer."""

import os
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from agent_rl.config.model import LoraSettings
from agent_rl.policy.lora import (
    ADAPTER,
    base_of,
    has_adapter,
    merged_weights,
    resume_lora,
    save_adapter,
    with_lora,
    without_wrapper,
)

# The command line shows its own progress; transformers' bars would tear it.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

CONFIG = "config.json"
"""The file that makes a folder a Hugging Face folder."""

_CHANGES_LOGITS = ("final_logit_softcapping", "logits_scaling", "logit_scale")
"""Keys of models whose logits are not those of their linear head alone."""


def load_policy(
    source: str, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    Args:
        source: a Hugging Face folder, a hub name, or a `.gguf` file (it becomes dense, and needs
            the `gguf` extra).
        dtype: of the weights in memory. Train in float32: bfloat16 weights lose small updates.

    Raises:
        ValueError: there is no model at `source`, or its logits need more than a linear head.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        model, tokenizer = _load_gguf(path, dtype)
    elif path.exists() or _looks_like_a_path(source):
        _refuse_other_folders(path)
        model, tokenizer = _load_pretrained(str(path), dtype)
    else:
        model, tokenizer = _load_pretrained(source, dtype)
    _refuse_changed_logits(model, source)
    return model, tokenizer


def load_to_train(
    source: str, lora: LoraSettings | None, *, resume: bool = False, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy to train all its weights, or an adapter on top of them.

    Args:
        source: as in `load_policy`; to resume, the `model/` of a checkpoint.
        lora: the adapter's settings; None trains all weights. A new run gets a new adapter, and
            its base is the policy at `source` with whatever adapter was merged into it.
        resume: continue with the adapter and the base of the checkpoint.
        seed: decides the weights of a new adapter.

    Raises:
        ValueError: there is no model at `source`, or the checkpoint to resume was trained with
            another `lora`.
    """
    if not resume:
        model, tokenizer = load_policy(source)
        if lora is not None:
            model = with_lora(model, lora, source=source, seed=seed)
        return model, tokenizer
    adapter = Path(source) / ADAPTER
    if adapter.is_dir() and lora is None:
        raise ValueError(
            f"model.lora: is not set, but {source} was trained with an adapter; set it as it was"
        )
    if lora is None:
        return load_policy(source)
    if not adapter.is_dir():
        raise ValueError(
            f"model.lora: is set, but {source} was trained without an adapter; remove it"
        )
    base = base_of(adapter)
    try:
        model, tokenizer = load_policy(base)
    except ValueError as error:
        raise ValueError(
            f"{adapter}: the model that this adapter was trained on cannot be loaded: {error}; put "
            f"it back, or start a new run from the merged weights, model.path={source}"
        ) from error
    return resume_lora(model, lora, adapter), tokenizer


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a Hugging Face folder that `load_policy` and other tools read.

    An adapter is merged into the weights there. It is also written separately, so that
    `load_to_train` can resume it.
    """
    if has_adapter(model):
        merged = {name: tensor.to("cpu") for name, tensor in merged_weights(model)}
        without_wrapper(model).save_pretrained(folder, state_dict=merged)
        save_adapter(model, folder / ADAPTER)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def decoder_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Linear]:
    """Return the module that gives hidden states and the one that makes logits of them.

    An adapter stays within the decoder's layers.
    """
    inner = without_wrapper(model)
    head = inner.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, nn.Linear), type(head)
    return inner.base_model, head


def _load_gguf(path: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder, file = str(path.parent), path.name
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=GgufConfig(dequantize=True), gguf_file=file
    )
    # The config still says "quantized", but the dense weights are what will be saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    return cast(PreTrainedModel, model), cast(PreTrainedTokenizerBase, tokenizer)


def _load_pretrained(
    source: str, dtype: torch.dtype
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise ValueError(
            f"model {source!r} is no folder here and could not be fetched as a hub name: give the "
            "path of a Hugging Face folder or of a .gguf file, or check the name and the network"
        ) from error
    return cast(PreTrainedModel, model), cast(PreTrainedTokenizerBase, tokenizer)


def _looks_like_a_path(source: str) -> bool:
    """Whether a source that does not exist was meant as a path, and not as a hub name.

    The network is not asked. A hub name is `name` or `owner/name`; so `runs/inti` is a mistyped
    path if there is a folder `runs` here.
    """
    first = Path(source).parts[:1]
    local_parent = source.count(os.sep) == 1 and Path(*first).is_dir()
    return (
        source.startswith((".", "~", os.sep))
        or source.count(os.sep) > 1
        or source.endswith(".gguf")
        or local_parent
    )


def _refuse_other_folders(path: Path) -> None:
    if not path.exists():
        raise ValueError(
            f"model {path}: no such file or folder; `agent-rl init` makes one, or give a hub name"
        )
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"model {path}: has no {CONFIG}, so it is no Hugging Face folder; give the folder that "
            f"holds {CONFIG}, or the path of a .gguf file"
        )


def _refuse_changed_logits(model: PreTrainedModel, source: str) -> None:
    config = model.config.get_text_config()
    for key in _CHANGES_LOGITS:
        if getattr(config, key, None) not in (None, 1.0):
            raise ValueError(
                f"model {source}: its config sets {key}, which the learner's log-probs do not "
                "apply; use a model whose logits are its linear head's, such as Llama, Qwen2.5 or "
                "SmolLM2"
            )
