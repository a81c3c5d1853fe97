"""Judges the files of a model folder before anything is loaded. Light to import: no torch.

Only the beginnings of the weights are read, so a folder of any size is judged at once. What only
the loaded model shows is judged in `agent_rl.policy.checks`.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_rl.config import ConfigError
from agent_rl.files import read_json_object

CONFIG = "config.json"
"""The file that makes a folder a Hugging Face folder."""
WEIGHTS = "model.safetensors"
"""The file with all weights, if they are in one."""

ADAPTER_CONFIG = "adapter_config.json"
"""The file that makes a folder that of an adapter (PEFT)."""
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_WEIGHTS = (WEIGHTS, "pytorch_model.bin")
"""The names of weights in one file, in the order in which transformers looks for them."""
_INDEX = ".index.json"
"""Ends the name of the file that lists the shards of weights in several files."""
_JSON = (
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
"""Files that a folder may have; transformers reads a JSON object from each."""
_TOKENIZER = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json")
"""Patterns of the files of which a tokenizer has at least one."""
_POINTER = b"version https://git-lfs"
"""How the text begins that Git stores in place of a large file."""
_LENGTH_BYTES = 8
"""A safetensors file begins with the length of its header, as an integer of 8 bytes."""
_METADATA = "__metadata__"
"""The key of a safetensors header that is no tensor."""
BASE_RELATIVE = "base_relative"
"""A key of an adapter's metadata: the path of its base from the adapter's folder."""
_LISTED = 3
"""The most names in a message."""


def check_folder(path: Path) -> None:
    """Raise if the files at a path cannot be a policy: a causal language model and its tokenizer.

    A folder with an adapter (PEFT) is a policy too, with its base.

    Raises:
        ConfigError: there is no folder, or a file is missing, cut off, damaged or only a pointer.
            Or the weights are quantised.
    """
    if not path.exists():
        raise ConfigError(
            f"model {path}: no such file or folder; `agent-rl init` makes one, or give a hub name"
        )
    if not path.is_dir():
        raise ConfigError(
            f"model {path}: is a file; give the folder that holds it, or the path of a .gguf file"
        )
    if is_adapter(path):
        _check_whole_adapter(path)
        return
    if not (path / CONFIG).is_file():
        raise ConfigError(
            f"model {path}: has no {CONFIG}, so it is no Hugging Face folder; give the folder that "
            f"holds {CONFIG}, or the path of a .gguf file"
        )
    refuse_quantised(_json_object(path / CONFIG), str(path))
    for name in _JSON:
        if (path / name).is_file():
            _json_object(path / name)
    for file in weight_files(path):
        _check_weights(file)
    tokenizer = [file for pattern in _TOKENIZER for file in path.glob(pattern) if file.is_file()]
    if not tokenizer:
        raise ConfigError(
            f"model {path}: has no tokenizer (tokenizer.json, tokenizer_config.json); copy these "
            "files from the model that it was trained from"
        )
    for file in tokenizer:
        _refuse_pointer(file)


def check_gguf(path: Path) -> None:
    """Raise ConfigError if a `.gguf` file is a pointer, or no such file."""
    _refuse_pointer(path)
    if _beginning(path) != b"GGUF":
        raise ConfigError(f"model {path}: is no GGUF file, or damaged; download it again")


def check_adapter(path: Path) -> None:
    """Raise ConfigError if a file of a saved adapter (`save_adapter`) is missing or damaged."""
    for name in (ADAPTER_CONFIG, _ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise ConfigError(f"{path / name}: missing; put the adapter's folder back, whole")
    _json_object(path / ADAPTER_CONFIG)
    _check_weights(path / _ADAPTER_WEIGHTS)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder's weights, which all exist.

    Raises:
        ConfigError: there are none, or a shard is missing.
    """
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}{_INDEX}").is_file():
            return _shards(folder / f"{name}{_INDEX}")
    raise ConfigError(
        f"model {folder}: holds no weights ({', '.join(_WEIGHTS)}, or shards of them with their "
        f"{_INDEX.lstrip('.')}); copy them there, or give the folder that holds them"
    )


def is_adapter(path: Path) -> bool:
    """Return whether a folder holds an adapter (PEFT) in place of a whole model."""
    return (path / ADAPTER_CONFIG).is_file()


def has_tokenizer(path: Path) -> bool:
    """Return whether a folder has a tokenizer's files, as some have that hold an adapter."""
    return any((path / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json"))


def base_of(adapter: Path) -> tuple[str, str]:
    """Return where the base of an adapter is, and its revision (see `load_policy`).

    A path may be recorded twice: as it was, and relative to the adapter. The second one is right if
    the run folder was moved and the base with it. Other programs record one path, which may be
    relative, too.

    Raises:
        ConfigError: the adapter names no base.
    """
    config = _json_object(adapter / ADAPTER_CONFIG)
    source, revision = config.get("base_model_name_or_path"), config.get("revision") or ""
    if not isinstance(source, str) or not source:
        raise ConfigError(
            f"{adapter / ADAPTER_CONFIG}: names no base model (base_model_name_or_path); write "
            "the folder or the hub name of the model that the adapter was trained on there"
        )
    if Path(source).expanduser().exists():
        return source, revision
    moved = _safetensors_header(adapter / _ADAPTER_WEIGHTS).get(_METADATA, {}).get(BASE_RELATIVE)
    for relative in (moved, source):
        if relative and (adapter / relative).exists():
            return str((adapter / relative).resolve()), revision
    return source, revision


def _check_whole_adapter(path: Path) -> None:
    """Raise ConfigError if an adapter cannot be a policy with its base."""
    if (path / CONFIG).is_file():
        # Some programs would load the base from elsewhere, not the weights that lie here.
        raise ConfigError(
            f"model {path}: holds a model ({CONFIG}) and an adapter ({ADAPTER_CONFIG}, PEFT); put "
            "each into a folder of its own, and give the one that you mean"
        )
    check_adapter(path)
    kind = _json_object(path / ADAPTER_CONFIG).get("peft_type")
    if kind != "LORA":
        raise ConfigError(
            f"model {path}: its adapter is of the kind {kind}, and only LORA is loaded; merge it "
            "into its base with peft, save that with its tokenizer, and give the new folder"
        )
    source, _ = base_of(path)
    base = Path(source).expanduser()
    if not base.exists():
        return  # a hub name, or else the load says what is missing
    if is_adapter(base):
        raise ConfigError(
            f"model {path}: its base {source} is an adapter, too; merge that one into its own base "
            "with peft, and name the result in base_model_name_or_path"
        )
    check_folder(base)


def refuse_quantised(config: Mapping[str, Any], source: str) -> None:
    """Raise ConfigError if a model's config says that its weights are quantised."""
    found = config.get("quantization_config") or config.get("compression_config")
    if found:
        method = found.get("quant_method", "unknown") if isinstance(found, Mapping) else found
        raise ConfigError(
            f"model {source}: its weights are quantised ({method}), and such weights cannot be "
            "trained; use the original model in bfloat16 or float32"
        )


def _shards(index: Path) -> list[Path]:
    names = _json_object(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise ConfigError(f"{index}: damaged, it lists no shards; download it again")
    shards = [index.parent / name for name in sorted(set(names.values()))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ConfigError(
            f"model {index.parent}: {listed(missing)} of its {len(shards)} shards missing, which "
            f"{index.name} names; download the folder again, whole"
        )
    return shards


def _check_weights(path: Path) -> None:
    """Raise ConfigError if a file of weights is not as long as it says that it is."""
    _refuse_pointer(path)
    if path.suffix == ".safetensors":
        _check_safetensors(path)
    elif _beginning(path)[:2] in (b"", b"PK") and not zipfile.is_zipfile(path):
        raise _cut_off(path, "its end is missing")


def _check_safetensors(path: Path) -> None:
    size, header = path.stat().st_size, _safetensors_header(path)
    try:
        tensors = [value for key, value in header.items() if key != _METADATA]
        end = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        whole = _header_bytes(path) + int(end)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise _bad_header(path) from error
    if size < whole:
        raise _cut_off(path, f"it has {size:,} of {whole:,} bytes")
    if size > whole:
        raise ConfigError(
            f"{path}: damaged, it has {size:,} bytes and its header says {whole:,}; copy it again"
        )


def _safetensors_header(path: Path) -> dict[str, Any]:
    """What a file says of its tensors, and its metadata."""
    size = path.stat().st_size
    if size < _LENGTH_BYTES or _header_bytes(path) > size:
        raise _cut_off(path, f"its {size:,} bytes do not hold its header")
    try:
        header = json.loads(_beginning(path, _header_bytes(path))[_LENGTH_BYTES:])
    except ValueError as error:
        raise _bad_header(path) from error
    if not isinstance(header, dict):
        raise _bad_header(path)
    return header


def _header_bytes(path: Path) -> int:
    return _LENGTH_BYTES + int.from_bytes(_beginning(path, _LENGTH_BYTES), "little")


def _bad_header(path: Path) -> ConfigError:
    return ConfigError(f"{path}: damaged, its header cannot be read; copy it again")


def _cut_off(path: Path, how: str) -> ConfigError:
    return ConfigError(f"{path}: cut off, {how}; copy or download it again, whole")


def _json_object(path: Path) -> dict[str, Any]:
    _refuse_pointer(path)
    try:
        return read_json_object(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _refuse_pointer(path: Path) -> None:
    if _beginning(path, len(_POINTER)) == _POINTER:
        raise ConfigError(
            f"{path}: is a Git LFS pointer, and the file itself is not here; run `git lfs pull` in "
            f"{path.parent}"
        )


def _beginning(path: Path, length: int = 4) -> bytes:
    with path.open("rb") as file:
        return file.read(length)


def listed(names: list[str]) -> str:
    """Write the first of some names, and how many more there are."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"{', '.join(names[:_LISTED])}{more}"
