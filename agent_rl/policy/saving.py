"""Saves a policy: a causal language model and its tokenizer."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging as transformers_logging

from agent_rl.policy.folder import WEIGHTS
from agent_rl.policy.lora import (
    ADAPTER,
    has_adapter,
    merged_weights,
    save_adapter,
    weight_forms,
    without_wrapper,
)
from agent_rl.policy.weight_file import Form, write_tensors
from agent_rl.policy.whole import gathered, is_first, whole_weights

# The command line shows its own progress; transformers' bars would tear it.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a Hugging Face folder that `load_policy` and other tools read.

    An adapter is merged into the weights there. It is also written separately, so that
    `load_to_train` can resume it. All processes that share the model call this, and the first one
    writes. It has one whole weight at a time.

    Args:
        folder: new or empty.
    """
    inner, forms = without_wrapper(model), weight_forms(model)
    if _saved_as_they_are(inner, forms):
        _save_one_by_one(model, forms, folder)
    else:
        weights = whole_weights(merged_weights(model))
        if is_first():
            inner.save_pretrained(folder, state_dict=weights)
        del weights
    if is_first():
        tokenizer.save_pretrained(folder)
    if has_adapter(model):
        save_adapter(model, folder / ADAPTER)


def _saved_as_they_are(model: PreTrainedModel, forms: dict[str, Form]) -> bool:
    """Whether transformers saves a model's weights under its own names, each by itself.

    It takes some models' experts apart, as other programs expect them.
    """
    empty = {
        name: torch.empty(tuple(shape), dtype=dtype, device="meta")
        for name, (dtype, shape) in forms.items()
    }
    saved = revert_weight_conversion(model, empty)
    return {name: (tensor.dtype, tensor.shape) for name, tensor in saved.items()} == forms


def _save_one_by_one(model: PreTrainedModel, forms: dict[str, Form], folder: Path) -> None:
    """Write a model's configs, and its weights with one whole weight in memory at a time."""
    weights = gathered(merged_weights(model))
    try:
        if is_first():
            without_wrapper(model).save_pretrained(folder, state_dict={})
            write_tensors(folder / WEIGHTS, forms, weights, {"format": "pt"})
    finally:
        # If the disk is full, too: the other processes gather with this one.
        for _ in weights:
            pass
