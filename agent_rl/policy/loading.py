"""Loads a policy: a causal language model and its tokenizer."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from agent_rl.config import ConfigError
from agent_rl.config.model import LoraSettings
from agent_rl.policy.adapters import continue_lora, merge_adapter
from agent_rl.policy.checks import check_loaded, name_all_ends, refuse_large_tokenizer
from agent_rl.policy.folder import (
    base_of,
    check_adapter,
    check_folder,
    check_gguf,
    has_tokenizer,
    is_adapter,
)
from agent_rl.policy.lora import ADAPTER, resume_lora, with_lora, without_wrapper
from agent_rl.policy.refusals import TokenizerError, explained, reason
from agent_rl.policy.unread import unread_model

# The command line shows its own progress; transformers' bars would tear it.
transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def load_policy(
    source: str,
    dtype: torch.dtype = torch.float32,
    *,
    revision: str = "",
    shared: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer.

    The model's config names all tokens that end an answer: those of its generation config, too.
    Code that comes with a model is never run.

    Args:
        source: a Hugging Face folder, a hub name, or a `.gguf` file (it becomes dense, and needs
            the `gguf` extra). Or a folder with an adapter (PEFT), which is merged into its base.
        dtype: of the weights in memory. Train in float32: bfloat16 weights lose small updates.
        revision: the commit, branch or tag of a hub model; empty is its newest.
        shared: whether several processes will share the model. Its weights then stay in their
            files until `agent_rl.policy.unread.read_weights`, if the files allow it.

    Raises:
        ValueError: there is no model at `source`, or it is damaged, incomplete or of a kind that
            cannot be trained (see `agent_rl.policy.checks`).
    """
    refuse_bad_source(source, revision)
    if (adapter := _adapter_at(source)) is not None:
        # In float32, in which the sum of both is rounded once.
        model, tokenizer = _load_base(adapter)
        return _in_dtype(merge_adapter(model, adapter), dtype), tokenizer
    where, options = _where(source, revision)
    with explained(source, revision), _quiet():
        model, report = _load_model(where, dtype, options, shared=shared)
        tokenizer = _load_tokenizer(where, options)
    check_loaded(model, tokenizer, report, source)
    name_all_ends(model.config, model.generation_config, source)
    return model, tokenizer


def load_description(
    source: str, *, revision: str = ""
) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    """Load a policy's config and tokenizer, but not its weights.

    The config names all tokens that end an answer, as that of `load_policy` does.

    Args:
        source: as in `load_policy`.
        revision: as in `load_policy`.

    Raises:
        ValueError: there is no model at `source`, or it is damaged, as far as that shows without
            loading the weights.
    """
    refuse_bad_source(source, revision)
    if (adapter := _adapter_at(source)) is not None:
        base, base_revision = base_of(adapter)
        with _base_of(adapter):
            config, tokenizer = load_description(base, revision=base_revision)
        rows = config.get_text_config().vocab_size
        return config, _tokenizer_beside(adapter, tokenizer, rows)
    where, options = _where(source, revision)
    with explained(source, revision), _quiet():
        config = AutoConfig.from_pretrained(where, **options)
        tokenizer = _load_tokenizer(where, options)
        generation = _load_generation_config(where, options)
    refuse_large_tokenizer(config.get_text_config().vocab_size, tokenizer, source)
    name_all_ends(config, generation, source)
    return config, tokenizer


def refuse_bad_source(source: str, revision: str = "") -> None:
    """Raise if a source cannot be a policy, as far as it shows without loading or network.

    Raises:
        ValueError: see `check_folder`; or `revision` is given for something that is on this disk.
    """
    path = Path(source).expanduser()
    local = path.exists() or _looks_like_a_path(source)
    if local and revision:
        raise ConfigError(
            f"model.revision: {revision!r}: is for models of the hub, and {source} is a path; "
            "remove it"
        )
    if path.is_file() and path.suffix == ".gguf":
        check_gguf(path)
    elif local:
        check_folder(path)


def load_to_train(
    source: str,
    lora: LoraSettings | None,
    *,
    revision: str = "",
    resume: bool = False,
    seed: int = 0,
    shared: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy to train all its weights, or an adapter on top of them.

    Args:
        source: as in `load_policy`; to resume, the `model/` of a checkpoint.
        lora: the adapter's settings; None trains all weights. A new run gets a new adapter, and
            its base is the policy at `source` with whatever adapter was merged into it. If `source`
            is itself an adapter, that one is trained on.
        revision: of a hub model, as in `load_policy`. An adapter records that of its base.
        resume: continue with the adapter and the base of the checkpoint.
        seed: decides the weights of a new adapter.
        shared: as in `load_policy`.

    Raises:
        ValueError: there is no model at `source`, or the checkpoint to resume was trained with
            another `lora`.
    """
    started_from = None if resume or lora is None else _adapter_at(source)
    if started_from is not None and lora is not None:
        refuse_bad_source(source, revision)
        model, tokenizer = _load_base(started_from, shared=shared)
        return continue_lora(model, lora, started_from), tokenizer
    if not resume:
        model, tokenizer = load_policy(source, revision=revision, shared=shared)
        if lora is not None:
            model = with_lora(model, lora, source=source, revision=revision, seed=seed)
        return model, tokenizer
    adapter = Path(source) / ADAPTER
    if adapter.is_dir() and lora is None:
        raise ValueError(
            f"model.lora: is not set, but {source} was trained with an adapter; set it as it was"
        )
    if lora is None:
        return load_policy(source, revision=revision, shared=shared)
    if not adapter.is_dir():
        raise ValueError(
            f"model.lora: is set, but {source} was trained without an adapter; remove it"
        )
    check_adapter(adapter)
    base, base_revision = base_of(adapter)
    try:
        model, tokenizer = load_policy(base, revision=base_revision, shared=shared)
    except ValueError as error:
        raise ValueError(
            f"{adapter}: the model that this adapter was trained on cannot be loaded: {error}; put "
            f"it back, or start a new run from the merged weights, model.path={source}"
        ) from error
    return resume_lora(model, lora, adapter), tokenizer


def policy_loader(
    source: str,
    lora: LoraSettings | None,
    *,
    revision: str = "",
    resume: bool = False,
    seed: int = 0,
    shared: bool = False,
) -> partial[tuple[PreTrainedModel, PreTrainedTokenizerBase]]:
    """Return `load_to_train` with its arguments, to be called in another process.

    It is small to send. A relative path is made absolute, as the other process may have another
    working folder.
    """
    path = Path(source).expanduser()
    where = str(path.absolute()) if path.exists() else source
    return partial(
        load_to_train, where, lora, revision=revision, resume=resume, seed=seed, shared=shared
    )


def decoder_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Linear]:
    """Return the module that gives hidden states and the one that makes logits of them.

    An adapter stays within the decoder's layers.
    """
    inner = without_wrapper(model)
    head = inner.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, nn.Linear), type(head)
    return inner.base_model, head


def _adapter_at(source: str) -> Path | None:
    """The folder at `source` if it holds an adapter."""
    path = Path(source).expanduser()
    return path if is_adapter(path) else None


def _load_base(
    adapter: Path, *, shared: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model that an adapter belongs to, and the tokenizer in its folder or else the model's."""
    base, revision = base_of(adapter)
    with _base_of(adapter):
        model, tokenizer = load_policy(base, revision=revision, shared=shared)
    embedding: Any = model.get_input_embeddings()
    return model, _tokenizer_beside(adapter, tokenizer, embedding.weight.shape[0])


@contextmanager
def _base_of(adapter: Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ConfigError(
            f"model {adapter}: the base of this adapter cannot be loaded: {error}; its "
            "adapter_config.json names it (base_model_name_or_path)"
        ) from error


def _in_dtype(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """The model with its weights in a dtype, and its buffers as they are."""
    for weight in model.parameters():
        weight.data = weight.data.to(dtype)
    model.config.dtype = dtype
    return model


def _tokenizer_beside(
    adapter: Path, of_base: PreTrainedTokenizerBase, rows: int
) -> PreTrainedTokenizerBase:
    """The tokenizer of an adapter's folder; some have none, and use that of the base.

    Args:
        rows: of the base's embedding.
    """
    if not has_tokenizer(adapter):
        return of_base
    with explained(str(adapter), ""), _quiet():
        tokenizer = _load_tokenizer(str(adapter), {"trust_remote_code": False})
    refuse_large_tokenizer(rows, tokenizer, str(adapter))
    return tokenizer


_Loaded = tuple[PreTrainedModel, dict[str, Any]]
"""The model, and transformers' report on the load."""


def _where(source: str, revision: str) -> tuple[str, dict[str, Any]]:
    """What to give to `from_pretrained`: a folder or a hub name, and the options."""
    path = Path(source).expanduser()
    if path.is_file():
        return str(path.parent), {"gguf_file": path.name}
    # trust_remote_code: without an answer, transformers asks at the terminal.
    options = {"revision": revision or None, "trust_remote_code": False}
    return str(path) if path.exists() else source, options


def _load_model(
    where: str, dtype: torch.dtype, options: dict[str, Any], *, shared: bool
) -> _Loaded:
    if "gguf_file" in options:
        return _load_gguf(where, dtype, options)
    unread = unread_model(where, dtype, revision=options["revision"]) if shared else None
    if unread is not None:
        return unread, dict.fromkeys(("missing_keys", "mismatched_keys", "unexpected_keys"), ())
    return _load_pretrained(where, dtype, options)


def _load_gguf(where: str, dtype: torch.dtype, options: dict[str, Any]) -> _Loaded:
    load_model: Any = AutoModelForCausalLM.from_pretrained
    model, report = load_model(
        where,
        dtype=dtype,
        quantization_config=GgufConfig(dequantize=True),
        output_loading_info=True,
        **options,
    )
    # The config still says "quantized", but the dense weights are what will be saved.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, report


def _load_pretrained(where: str, dtype: torch.dtype, options: dict[str, Any]) -> _Loaded:
    load_model: Any = AutoModelForCausalLM.from_pretrained
    model, report = load_model(
        where,
        dtype=dtype,
        output_loading_info=True,
        # `check_loaded` refuses other shapes, and names them.
        ignore_mismatched_sizes=True,
        **options,
    )
    return model, report


def _load_tokenizer(where: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, **options)
    except OSError:
        raise
    except Exception as error:
        raise TokenizerError(reason(error)) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def _load_generation_config(where: str, options: dict[str, Any]) -> GenerationConfig | None:
    """The model's generation config; None if it has no file of its own."""
    if "gguf_file" in options:
        return None
    load: Any = GenerationConfig.from_pretrained
    try:
        loaded: GenerationConfig = load(where, revision=options["revision"])
    except OSError:
        return None
    return loaded


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back transformers' warnings in a `with` block: what they say is checked afterwards."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


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
