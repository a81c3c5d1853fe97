"""Identifies a policy by the content of its files, so a moved policy is still the same one."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.hub import resolve_revision

from agent_rl.config import ConfigError
from agent_rl.policy.loading import load_policy, refuse_bad_source

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TEXT = ("*.json", "*.jinja", "*.txt", "*.model")
_UNUSED = "generation_config.json"
"""Settings of transformers' own sampler, which nothing here uses."""
_LETTERS = 12


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The identity of a policy: the first letters of SHA-256 digests, or a commit on the hub."""

    weights: str
    """Of the weights alone."""
    policy: str
    """Of all files that its text depends on, the tokenizer's too."""


def fingerprint(source: str, *, revision: str = "") -> Fingerprint:
    """Return the fingerprint of the policy at `source`; the arguments are as in `load_policy`.

    A model on the hub is not downloaded: its commit identifies it.

    Raises:
        ValueError: there is no policy at `source`, or its files are damaged or incomplete.
    """
    refuse_bad_source(source, revision)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        weights = _sha256([path])
        return Fingerprint(weights=weights, policy=weights)
    if path.is_dir():
        files = _in_folder(path, _WEIGHTS)
        weights = _sha256(files)
        return Fingerprint(weights=weights, policy=_sha256([*files, *_in_folder(path, _TEXT)]))
    commit = getattr(resolve_revision(source, revision or None), "resolved", None)
    if commit is None:
        load_policy(source, revision=revision)  # raises an error that says what is wrong
        raise ConfigError(
            f"model {source}: loads, but its commit on the hub is not known; give it as a folder"
        )
    return Fingerprint(weights=f"commit {commit[:_LETTERS]}", policy=f"{source} at {commit}")


def _in_folder(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files that match a pattern, by name."""
    files: list[Path] = []
    for pattern in patterns:
        files += [path for path in folder.glob(pattern) if path.name != _UNUSED]
    return sorted(files)


def _sha256(files: Iterable[Path]) -> str:
    """The digest of one file, or of the lines `DIGEST  NAME` of several files in their order."""
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    whole = lines[0] if len(lines) == 1 else hashlib.sha256("".join(lines).encode()).hexdigest()
    return whole[:_LETTERS]
