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

_ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
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
_LISTED = 3
"""The most names in a message."""


def check_folder(path: Path) -> None:
    """Raise if the files at a path cannot be a policy: a causal language model and its tokenizer.

    Raises:
        ConfigError: there is no folder, or a file is missing, cut off, damaged or only a pointer.
            Or the folder holds an adapter, or quantised weights.
    """
    if not path.exists():
        raise ConfigError(
            f"model {path}: no such file or folder; `agent-rl init` makes one, or give a hub name"
        )
    if not path.is_dir():
        raise ConfigError(
            f"model {path}: is a file; give the folder that holds it, or the path of a .gguf file"
        )
    refuse_adapter(path)
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
    for name in (_ADAPTER_CONFIG, _ADAPTER_WEIGHTS):
        if not (path / name).is_file():
            raise ConfigError(f"{path / name}: missing; put the adapter's folder back, whole")
    _json_object(path / _ADAPTER_CONFIG)
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


def refuse_adapter(path: Path) -> None:
    """Raise ConfigError if a folder holds an adapter (PEFT) in place of a whole model."""
    if not (path / _ADAPTER_CONFIG).is_file():
        return
    # The layout of a checkpoint trained with `model.lora`.
    merged = path.absolute().parent
    if (merged / CONFIG).is_file():
        raise ConfigError(
            f"model {path}: holds an adapter, which is merged into the model above it; give "
            f"{path.parent}"
        )
    base = _json_object(path / _ADAPTER_CONFIG).get("base_model_name_or_path") or "its base"
    raise ConfigError(
        f"model {path}: holds an adapter ({_ADAPTER_CONFIG}, PEFT), not a whole model; merge it "
        f"into {base} with `AutoPeftModelForCausalLM.from_pretrained({str(path)!r})"
        ".merge_and_unload()`, save that with its tokenizer, and give the new folder"
    )


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
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > size - _LENGTH_BYTES:
            raise _cut_off(path, f"its {size:,} bytes do not hold its header")
        header = file.read(length)
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        end = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        whole = _LENGTH_BYTES + length + int(end)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigError(f"{path}: damaged, its header cannot be read; copy it again") from error
    if size < whole:
        raise _cut_off(path, f"it has {size:,} of {whole:,} bytes")
    if size > whole:
        raise ConfigError(
            f"{path}: damaged, it has {size:,} bytes and its header says {whole:,}; copy it again"
        )


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
