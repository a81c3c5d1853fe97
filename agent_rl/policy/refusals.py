"""Turns any error of loading a model into a sentence that names the model and the way out."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

from agent_rl.config import ConfigError

_REASON = 240
"""The most letters of a library's message within ours."""


class TokenizerError(Exception):
    """The tokenizer's files cannot be read; the message is the library's."""


@contextmanager
def explained(source: str, revision: str) -> Iterator[None]:
    """Turn any error of a load into a ValueError that names the source and the way out.

    Libraries raise errors of many types here: whatever it is, the cause is what lies at `source`.
    """
    try:
        yield
    except Exception as error:
        raise _refusal(source, revision, error) from error


def _refusal(source: str, revision: str, error: Exception) -> ValueError:
    text = reason(error)
    causes = _causes(error)
    where = f"model {source}"
    if any(isinstance(cause, GatedRepoError) for cause in causes) or "gated" in str(error).lower():
        return ConfigError(
            f"{where}: is gated on the hub; accept its terms at https://huggingface.co/{source}, "
            "then log in with `hf auth login`"
        )
    if any(isinstance(cause, RevisionNotFoundError) for cause in causes):
        return ConfigError(
            f"model.revision: {revision!r}: {source} has no such commit, branch or tag on the hub"
        )
    if "trust_remote_code" in str(error):
        return ConfigError(
            f"{where}: needs Python code of its own (trust_remote_code), which is never run here; "
            "use a model whose architecture transformers has, such as Llama, Qwen2.5 or SmolLM2"
        )
    if isinstance(error, TokenizerError):
        return ConfigError(
            f"{where}: its tokenizer cannot be loaded ({error}); copy tokenizer.json and "
            "tokenizer_config.json again from the model that it was trained from"
        )
    if Path(source).expanduser().exists():
        return ConfigError(
            f"{where}: cannot be loaded ({text}); it has to be a whole causal language model with "
            "its tokenizer, as transformers' `save_pretrained` writes it"
        )
    if isinstance(error, OSError):
        return ConfigError(
            f"model {source!r} is no folder here and could not be fetched as a hub name: give the "
            "path of a Hugging Face folder or of a .gguf file, or check the name and the network; "
            "a private model needs `hf auth login`"
        )
    return ConfigError(f"{where}: the hub's model cannot be loaded ({text}); use another model")


def _causes(error: BaseException) -> list[BaseException]:
    """An error, and those that it was raised from."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    return causes


def reason(error: Exception) -> str:
    """The beginning of an error's text, on one line; its type too if it is no plain refusal."""
    text = textwrap.shorten(str(error), _REASON, placeholder=" ...")
    return text if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {text}"
