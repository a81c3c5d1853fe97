"""Identifies a policy by the content of its files, so a moved policy is still the same one."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers.utils.hub import resolve_revision

from agent_rl.config import ConfigError
from agent_rl.files import read_json_object
from agent_rl.policy.folder import ADAPTER_CONFIG, base_of, is_adapter
from agent_rl.policy.loading import load_policy, refuse_bad_source

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_TEXT = ("*.json", "*.jinja", "*.txt", "*.model")
_UNUSED = "generation_config.json"
"""Settings of transformers' own sampler, which nothing here uses."""
_PASSING = ("base_model_name_or_path", "revision", "peft_version", "auto_mapping")
"""Keys of an adapter's config that its numbers do not depend on."""
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
    if is_adapter(path):
        return _of_adapter(path)
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


def _of_adapter(folder: Path) -> Fingerprint:
    """That of an adapter, which names where its base is now, on that of its base."""
    source, revision = base_of(folder)
    base = fingerprint(source, revision=revision)
    config = read_json_object(folder / ADAPTER_CONFIG)
    # The scale is as much a part of the weights as their numbers are.
    lasting = {key: value for key, value in config.items() if key not in _PASSING}
    weights = f"{_sha256(_in_folder(folder, _WEIGHTS))} {json.dumps(lasting, sort_keys=True)}"
    text = [file for file in _in_folder(folder, _TEXT) if file.name != ADAPTER_CONFIG]
    policy = f"{weights} {_sha256(text)}"
    return Fingerprint(
        weights=f"{_sha256_of(weights)} on {base.weights}",
        policy=f"{_sha256_of(policy)} on {base.policy}",
    )


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
    return lines[0][:_LETTERS] if len(lines) == 1 else _sha256_of("".join(lines))


def _sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_LETTERS]
