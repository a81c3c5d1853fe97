"""The policy's model and tokenizer: made from scratch, loaded, saved, and written for the serving
engine.
"""

import copy
import os
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GgufConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from agent_rl.config.model import LoraSettings, ModelSettings, TokensWithin
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

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_NAMES = r" ?\p{L}+ \d+|[.,:]? ?\p{L}+| ?\d+| ?[^\s\p{L}\d]+|\s+"


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, tokens_within: TokensWithin = "words"
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer on text of the environment. Lossless: every string decodes
    to itself.

    Text is cut into `words`, each with the space before it, or into `names`: there a word and a
    number behind it are not cut apart, and a full stop, comma or colon stays with the word that
    follows. No token goes beyond a cut.

    `<|end|>` ends an action and is the eos token; `<|bos|>` and `<|pad|>` are the other special
    tokens. Little text may give fewer than `vocab_size` tokens.

    Raises:
        ValueError: `vocab_size` is below 259, the bytes and the special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    smallest = len(alphabet) + 3
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is below {smallest} (256 bytes and 3 special tokens): raise it"
        )
    tokenizer = Tokenizer(models.BPE())
    if tokens_within == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut = pre_tokenizers.Split(Regex(_NAMES), "isolated")
        rest = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, rest])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, END],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )


def init_model(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0
) -> LlamaForCausalLM:
    """A Llama-architecture policy with random weights from `seed`, float32; two embeddings, or one
    if `tied`.

    The vocabulary is the tokenizer's, which may be smaller than `settings.vocab_size`.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=settings.context_length,
        tie_word_embeddings=settings.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # Modules draw from torch's global generator: it is seeded for them and put back.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)  # type: ignore[no-untyped-call]


def load_policy(
    source: str, dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer.

    Args:
        source: a Hugging Face folder, a `.gguf` file (made dense; needs the `gguf` extra), or a hub
        name.
        dtype: of the weights in memory. Train in float32: bfloat16 weights swallow small updates.

    Raises:
        ValueError: there is no model at `source`, or its logits need more than a linear head.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        gguf = {"gguf_file": path.name}
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), dtype=dtype, quantization_config=GgufConfig(dequantize=True), **gguf
        )
        # The file said "quantized" about itself; the dense weights are what gets saved from here
        # on.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **gguf)
    else:
        if path.exists() or _looks_like_a_path(source):
            _check_folder(path)
            source = str(path)
        try:
            model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype)
            tokenizer = AutoTokenizer.from_pretrained(source)
        except OSError as error:
            raise ValueError(
                f"model {source!r} is no folder here and could not be fetched as a hub name: give the path of a "
                "Hugging Face folder or of a .gguf file, or check the name and the network"
            ) from error
    _check_head(model, source)
    return cast(PreTrainedModel, model), cast(PreTrainedTokenizerBase, tokenizer)


def load_to_train(
    source: str, lora: LoraSettings | None, *, resume: bool = False, seed: int = 0
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a policy to train it: all its weights, or an adapter on top of them where `lora` is
    given.

    A run that begins gets a new adapter, drawn from `seed`, whatever `source` was trained with:
    what is there, merged, is its base. With `resume`, `source` is the `model/` of a checkpoint
    whose very adapter and base go on.

    Raises:
        ValueError: there is no model at `source`; or `resume`, and the checkpoint was trained with
        another `lora`.
    """
    if not resume:
        model, tokenizer = load_policy(source)
        return (
            model if lora is None else with_lora(model, lora, source=source, seed=seed)
        ), tokenizer
    adapter = Path(source) / ADAPTER
    if adapter.is_dir() != (lora is not None):
        raise ValueError(
            f"model.lora: is not set, but {source} was trained with an adapter; set it as it was"
            if lora is None
            else f"model.lora: is set, but {source} was trained without an adapter; remove it"
        )
    if lora is None:
        return load_policy(source)
    base = base_of(adapter)
    try:
        model, tokenizer = load_policy(base)
    except ValueError as error:
        raise ValueError(
            f"{adapter}: the model that this adapter was trained on cannot be loaded: {error}; put it back, or start a "
            f"new run from the merged weights, model.path={source}"
        ) from error
    return resume_lora(model, lora, adapter), tokenizer


def save_policy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write model and tokenizer as a Hugging Face folder that `load_policy` and other tools read.

    An adapter is merged into the weights there, and also written on its own, for `load_to_train` to
    go on with.
    """
    if has_adapter(model):
        merged = {name: tensor.to("cpu") for name, tensor in merged_weights(model)}
        without_wrapper(model).save_pretrained(folder, state_dict=merged)
        save_adapter(model, folder / ADAPTER)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_for_serving(model: PreTrainedModel, folder: Path, dtype: str) -> None:
    """Write the folder that the serving engine loads its weights from, untied and in its dtype
    (`"bfloat16"`, ...).

    An adapter is merged into them, tensor by tensor and straight to that dtype: the model stays as
    it is, and the copy is gone when it is written.

    An engine may keep a packed copy of a tied head and not refresh it, so `lm_head.weight` is
    always a tensor of its own, with `tie_word_embeddings` false. The weights appear whole or not at
    all (renamed into place); `config.json` is written by the first call only.
    """
    torch_dtype: torch.dtype = getattr(torch, dtype)
    folder.mkdir(parents=True, exist_ok=True)
    inner = without_wrapper(model)
    if not (folder / CONFIG).exists():
        config = copy.deepcopy(inner.config)
        config.architectures = [type(inner).__name__]
        config.tie_word_embeddings = False
        config.dtype = torch_dtype
        config.save_pretrained(folder)
    weights = {
        name: tensor.to("cpu", torch_dtype).contiguous() for name, tensor in merged_weights(model)
    }
    weights["lm_head.weight"] = (
        decoder_and_head(model)[1].weight.detach().to("cpu", torch_dtype).clone()
    )
    # Not *.safetensors before it is whole: an engine loads every file of that name in the folder.
    unfinished = folder / f"{WEIGHTS}.unfinished"
    save_file(weights, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / WEIGHTS)


def decoder_and_head(model: PreTrainedModel) -> tuple[nn.Module, nn.Linear]:
    """What gives hidden states, and what makes logits of them; of a model with an adapter, with the
    adapter in it.
    """
    inner = without_wrapper(model)
    head = inner.get_output_embeddings()  # type: ignore[no-untyped-call]
    assert isinstance(head, nn.Linear), type(head)
    return inner.base_model, head


def _looks_like_a_path(source: str) -> bool:
    """Decide without the network whether a missing source was meant as a path rather than as a hub
    name.
    """
    first = Path(source).parts[:1]
    local_parent = source.count(os.sep) == 1 and Path(*first).is_dir()
    return (
        source.startswith((".", "~", os.sep))
        or source.count(os.sep) > 1
        or source.endswith(".gguf")
        or local_parent
    )


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise ValueError(
            f"model {path}: no such file or folder; `agent-rl init` makes one, or give a hub name"
        )
    if not (path / CONFIG).is_file():
        raise ValueError(
            f"model {path}: has no {CONFIG}, so it is no Hugging Face folder; give the folder that holds {CONFIG}, "
            "or the path of a .gguf file"
        )


def _check_head(model: PreTrainedModel, source: str) -> None:
    config = model.config.get_text_config()
    for key in ("final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(config, key, None) not in (None, 1.0):
            raise ValueError(
                f"model {source}: its config sets {key}, which the learner's log-probs do not apply; use a model "
                "whose logits are its linear head's, such as Llama, Qwen2.5 or SmolLM2"
            )
