"""Small tokenizers of every kind that models come with. All have `CONTROLS`, and learn `TEXTS`."""

from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

CONTROLS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")
TEXTS = (
    "You see a desk 1, and a drawer 12.",
    "On the desk 1, you see a mug 3.",
    "> go to desk 1\n",
    "A note reads: user, assistant, system, think, im_start, im_end.",
    "Nothing happens.\n\nYou can now do one of these:\n",
    "".join(map(chr, range(33, 127))),
    " ".join(map(chr, range(33, 127))),
)
KINDS = ("byte", "own", "pieces", "prepended", "unigram", "words", "wordpiece", "folding", "whole")
"""Names for `make_kind`. `own` is what the project makes itself."""


def make_kind(kind: str, *, chat_template: str | None = None) -> Any:
    """Return a tokenizer of transformers.

    Args:
        kind: one of `KINDS`.
        chat_template: such as `CHATML`.
    """
    tokenizer, trainer = _MADE[kind]()
    if trainer is not None:
        tokenizer.train_from_iterator(TEXTS * 3, trainer)
    # As tokenizers of hub models do: control tokens are found before a normalizer has seen the
    # text, or after it ("folding").
    normalized = kind == "folding"
    tokens = [AddedToken(name, normalized=normalized, special=True) for name in CONTROLS]
    tokenizer.add_special_tokens(tokens)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False), AddedToken("desk 1")])
    wrap: Any = PreTrainedTokenizerFast
    return wrap(
        tokenizer_object=tokenizer,
        bos_token=tokens[0],
        eos_token=tokens[1],
        unk_token="<unk>" if tokenizer.token_to_id("<unk>") is not None else None,
        additional_special_tokens=tokens[2:],
        chat_template=chat_template,
    )


def _byte() -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = list(CONTROLS)
    return tokenizer, trainers.BpeTrainer(
        vocab_size=330, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )


def _whole() -> tuple[Tokenizer, Any]:
    """A byte-level model that takes a piece which is in its vocabulary without looking at merges,
    and whose pieces may be whole control tokens.
    """
    tokenizer, trainer = _byte()
    tokenizer.model = models.BPE(ignore_merges=True)
    cut = pre_tokenizers.Split(Regex(r"\s"), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
    return tokenizer, trainer


def _pieces() -> tuple[Tokenizer, Any]:
    """Like Llama 2's: "▁" for spaces, one before the first word only, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    specials = ["<unk>", *CONTROLS, *(f"<0x{i:02X}>" for i in range(256))]
    return tokenizer, trainers.BpeTrainer(
        vocab_size=460, special_tokens=specials, show_progress=False
    )


def _prepended() -> tuple[Tokenizer, Any]:
    tokenizer, trainer = _pieces()
    tokenizer.pre_tokenizer = None
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer, trainer


def _unigram() -> tuple[Tokenizer, Any]:
    """Its pieces are whole control tokens, which the model finds even where nobody looks."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=250, special_tokens=["<unk>", *CONTROLS], unk_token="<unk>", show_progress=False
    )


def _words() -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.WordLevelTrainer(
        special_tokens=["<unk>", *CONTROLS], show_progress=False
    )


def _wordpiece() -> tuple[Tokenizer, Any]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer, trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=["<unk>", *CONTROLS], show_progress=False
    )


def _folding() -> tuple[Tokenizer, Any]:
    """Reads full-width and capital letters as ordinary small ones, control tokens too."""
    tokenizer, trainer = _byte()
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return tokenizer, trainer


def _own() -> tuple[Tokenizer, Any]:
    from agent_rl.policy.from_scratch import train_tokenizer

    return train_tokenizer(TEXTS, 330, "names").backend_tokenizer, None


_MADE = {kind: globals()[f"_{kind}"] for kind in KINDS}


def sentencepiece_tokenizer(folder: Path) -> Any:
    """Return a tokenizer without a `tokenizers.Tokenizer` under it, as few models still have."""
    import sentencepiece
    from transformers.tokenization_utils_sentencepiece import SentencePieceBackend

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_prefix=str(folder / "pieces"),
        vocab_size=150,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    wrap: Any = SentencePieceBackend
    return wrap(
        vocab_file=str(folder / "pieces.model"),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
