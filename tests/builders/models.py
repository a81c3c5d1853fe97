"""A real tokenizer, and a real model that is tiny and random."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEXT = [
    "Guess my number.\n> ",
    "guess 1",
    "Higher.",
    "Lower.",
    "Nothing happens.",
    "Right!",
    "You see a desk 1.",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(*, bos: bool = True, chat_template: str | None = None) -> Any:
    """Return a byte-level BPE tokenizer of 300 entries, which keeps every text unchanged.

    Args:
        bos: whether it has a begin token, `<s>`.
        chat_template: the chat template, for example `CHATML`.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=tokenizer,
        bos_token="<s>" if bos else None,
        eos_token="</s>",
        chat_template=chat_template,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )


def make_model(seed: int, *, positions: int = 512) -> Any:
    """Return a random untied Llama in bfloat16 (2 layers, hidden 64), far from uniform outputs.

    Args:
        positions: the context length in tokens.
    """
    import torch

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=304,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=False,
        initializer_range=0.15,
    )
    model: Any = LlamaForCausalLM(config)  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        # Not model.to(torch.bfloat16), which also rounds the rotary embedding's frequencies.
        parameter.data = parameter.data.to(torch.bfloat16)
    return model


def save_policy(folder: Path, seed: int, **options: Any) -> Path:
    """Write a random model (see `make_model`) and a tokenizer to `folder`, and return it."""
    make_model(seed, **options).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
