"""Which policy this is, by what its files hold: the same after a move, another after one more
optimizer step.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.hub import resolve_revision

from agent_rl.config import ConfigError
from agent_rl.policy.loading import CONFIG, load_policy

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TEXT = ("*.json", "*.jinja", "*.txt", "*.model")
_UNUSED = "generation_config.json"
_LETTERS = 12


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """`weights`: of the weights alone; `policy`: of all that its text depends on, the tokenizer
    too.

    Both are the first letters of a SHA-256; for a model of the hub, of its commit there.
    """

    weights: str
    policy: str


def fingerprint(source: str) -> Fingerprint:
    """Tell by the files at `source`, a policy as in `load_policy`. A model of the hub is not
    downloaded for it.

    Raises:
        ValueError: there is no policy at `source`.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        weights = _sha256([path])
        return Fingerprint(weights=weights, policy=weights)
    if path.is_dir() and (path / CONFIG).is_file():
        files = _in_folder(path, _WEIGHTS)
        if not files:
            raise ConfigError(f"model {path}: holds no weights ({', '.join(_WEIGHTS)})")
        weights = _sha256(files)
        return Fingerprint(weights=weights, policy=_sha256([*files, *_in_folder(path, _TEXT)]))
    commit = getattr(resolve_revision(source), "resolved", None)
    if commit is None:
        load_policy(source)  # says what is wrong with it
        raise ConfigError(
            f"model {source}: loads, but its commit on the hub cannot be told; give it as a folder"
        )
    return Fingerprint(weights=f"commit {commit[:_LETTERS]}", policy=f"{source} at {commit}")


def _in_folder(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted(
        path for pattern in patterns for path in folder.glob(pattern) if path.name != _UNUSED
    )


def _sha256(files: Iterable[Path]) -> str:
    """A single file's own; of several, that of their names and digests in their order."""
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    whole = lines[0] if len(lines) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    return whole[:_LETTERS]
