"""The text of each token id, from the tokenizer that a run keeps beside its weights."""

from collections.abc import Iterable
from pathlib import Path

from agent_rl.config import Config
from agent_rl.display import visible
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout

_FILE = "tokenizer.json"
_WORD = "\u2581"
"""Begins a word's first token in SentencePiece's vocabularies, in place of a space."""


def tokenizer_file(run: RunLayout, config: Config | None) -> Path | None:
    """The newest tokenizer file of a run; None if it has none on this machine."""
    folders = [path / CHECKPOINT_MODEL for path in reversed(run.train.checkpoint_folders())]
    folders += [run.sft.model, run.init]
    if config is not None and config.model.path:
        folders.append(Path(config.model.path))
    for folder in folders:
        if (folder / _FILE).is_file():
            return folder / _FILE
    return None


def token_texts(path: Path | None, ids: Iterable[int]) -> dict[int, str]:
    """The text of each id; ids without one are left out, and all of them without a file.

    A token that is a part of a character has the replacement character.
    """
    if path is None:
        return {}
    # Imported here: only episodes need it.
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception:  # The library raises plain `Exception` for a damaged file.
        return {}
    texts = {}
    for token in sorted(set(ids)):
        piece = tokenizer.id_to_token(token)
        if piece is None:
            continue
        if piece.startswith(_WORD):
            # Decoded alone, its space would be lost.
            text = piece.replace(_WORD, " ")
        else:
            text = tokenizer.decode([token], skip_special_tokens=False)
        texts[token] = visible(text)
    return texts
