"""Makes a small policy from scratch: a tokenizer of the environment's texts, random weights."""

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from agent_rl.config.model import ModelSettings, TokensWithin

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"

# Pieces that no token crosses, for example in ", and a drawer 12":  ", and" | " a" | " drawer 12".
# The alternatives, in this order: a word with its number; a word with the punctuation before it;
# a number; other signs; white space.
_NAMES = r" ?\p{L}+ \d+|[.,:]? ?\p{L}+| ?\d+| ?[^\s\p{L}\d]+|\s+"
_NAME = re.compile(r"(?P<word>\W*\w*[^\W\d]) (?P<number>\d+)")
"""A token that is a word with its number."""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, tokens_within: TokensWithin = "words"
) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which decodes every text to itself.

    Text is first cut into pieces, and no token is longer than its piece. With `words` a piece is a
    word and the space before it. With `names` a piece is also a word and its number, and a full
    stop, comma or colon belongs to the word after it.

    The special tokens are `<|end|>`, which ends an action and is the eos token, `<|bos|>` and
    `<|pad|>`.

    Args:
        texts: the corpus.
        vocab_size: tokens at most; a small corpus gives fewer.
        tokens_within: the kind of pieces.

    Raises:
        ValueError: `vocab_size` is below 259: 256 bytes and the special tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    smallest = len(alphabet) + 3
    if vocab_size < smallest:
        raise ValueError(
            f"vocab_size {vocab_size} is below {smallest} (256 bytes and 3 special tokens): raise "
            "it"
        )
    tokenizer = Tokenizer(models.BPE())
    if tokens_within == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        cut = pre_tokenizers.Split(Regex(_NAMES), "isolated")
        # use_regex=False: the text is cut already, and this step only maps bytes to letters.
        to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
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


def llama_config(settings: ModelSettings, vocabulary: int, **ids: Any) -> LlamaConfig:
    """Return the config of a model from scratch without experts.

    Args:
        settings: the sizes.
        vocabulary: the number of tokens, which may be smaller than `settings.vocab_size`.
        ids: those of the special tokens, such as `eos_token_id`.
    """
    return LlamaConfig(**_sizes(settings, vocabulary), **ids)


def init_model(
    settings: ModelSettings, tokenizer: PreTrainedTokenizerBase, *, seed: int = 0
) -> LlamaForCausalLM | MixtralForCausalLM:
    """Return a model in float32 with random weights: a Llama, or a Mixtral if there are experts.

    Args:
        settings: the sizes.
        tokenizer: gives the vocabulary, which may be smaller than `settings.vocab_size`.
        seed: decides the weights.
    """
    config = config_from_scratch(
        settings,
        len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    # Modules draw their weights from torch's global generator: seed it for them, then restore it.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: LlamaForCausalLM | MixtralForCausalLM
        if isinstance(config, MixtralConfig):
            model = MixtralForCausalLM(config)  # type: ignore[no-untyped-call]
        else:
            model = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
        _relate_names(model, tokenizer)
    return model


def _relate_names(
    model: LlamaForCausalLM | MixtralForCausalLM, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Let the vector of a name, such as "drawer 12", start as the sum of its word's and number's.

    So names with the same word are alike from the first step on, and alike to the word alone, as
    in "put a mug in drawer". With unrelated vectors, the policy has to learn this of each name.
    """
    ids = {str(tokenizer.decode([token])): token for token in range(len(tokenizer))}
    names = [(token, match) for text, token in ids.items() if (match := _NAME.fullmatch(text))]
    vectors = list(model.get_input_embeddings().parameters())
    if not model.config.tie_word_embeddings:
        vectors.append(model.lm_head.weight)
    for weight in vectors:
        numbers: dict[str, Tensor] = {}
        for token, match in names:
            word, number = ids.get(match["word"]), match["number"]
            if word is None:
                continue
            if number not in numbers:
                numbers[number] = torch.randn_like(weight[0]) * model.config.initializer_range
            with torch.no_grad():
                # Divided by sqrt(2), the sum is as long as any other vector.
                weight[token] = (weight[word] + numbers[number]) / math.sqrt(2)


def config_from_scratch(
    settings: ModelSettings, vocabulary: int, **ids: Any
) -> LlamaConfig | MixtralConfig:
    """Return the config of a model from scratch, with its experts if it has any.

    A Mixtral is a Llama whose feed-forward networks are experts; nothing else differs here.

    Args:
        settings: the sizes.
        vocabulary: as in `llama_config`.
        ids: as in `llama_config`.
    """
    llama = llama_config(settings, vocabulary, **ids)
    if not settings.experts:
        return llama
    return MixtralConfig(
        **_sizes(settings, vocabulary),
        num_local_experts=settings.experts,
        num_experts_per_tok=settings.experts_per_token,
        # Mixtral's own defaults differ from Llama's.
        rms_norm_eps=llama.rms_norm_eps,
        rope_parameters=llama.rope_parameters,
        **ids,
    )


def _sizes(settings: ModelSettings, vocabulary: int) -> dict[str, Any]:
    """Return the sizes by transformers' names, which all its decoders share."""
    return {
        "vocab_size": vocabulary,
        "hidden_size": settings.hidden_size,
        "intermediate_size": settings.intermediate_size,
        "num_hidden_layers": settings.layers,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "max_position_embeddings": settings.context_length,
        "tie_word_embeddings": settings.tied,
    }
