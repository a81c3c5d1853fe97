"""What a model folder's files show is refused at once, with the file and the way out."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl.policy.folder import base_of, check_adapter, check_folder, check_gguf
from tests.builders.models import save_policy

POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 100000\n"  # 132 bytes
)
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_policy(tmp_path / "model", 0)
    check_folder(folder)
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match=re.escape(str(folder))) as error:
        check_folder(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_weights_that_are_not_there(model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "holds no weights (model.safetensors, pytorch_model.bin" in refused(model)


def test_a_missing_shard_is_named(model: Path) -> None:
    (model / "model.safetensors").rename(model / SHARDS[0])
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}))
    assert f"{SHARDS[1]} of its 2 shards missing" in refused(model)
    (model / SHARDS[1]).write_bytes((model / SHARDS[0]).read_bytes())
    check_folder(model)
    index.write_text(json.dumps({"weight_map": [1]}))
    assert f"{index}: damaged, it lists no shards" in refused(model)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "cut off, its 0 bytes do not hold its header"),
        (1000, "cut off, its 1,000 bytes do not hold its header"),
        (100_000, "cut off, it has 100,000 of "),
    ],
)
def test_weights_that_were_cut_off(size: int, message: str, model: Path) -> None:
    os.truncate(model / "model.safetensors", size)
    assert f"model.safetensors: {message}" in refused(model)


def test_weights_that_are_too_long_or_have_a_damaged_header(model: Path) -> None:
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content + content)
    assert f"model.safetensors: damaged, it has {2 * len(content):,} bytes" in refused(model)
    file.write_bytes(content[:8] + b"]" + content[9:])
    assert "model.safetensors: damaged, its header cannot be read" in refused(model)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer.model"]
)
def test_a_git_lfs_pointer_in_place_of_a_file(name: str, model: Path) -> None:
    (model / name).write_text(POINTER)
    assert f"{name}: is a Git LFS pointer, and the file itself is not here" in refused(model)
    assert f"`git lfs pull` in {model}" in refused(model)


def test_old_weights_that_were_cut_off(model: Path) -> None:
    (model / "model.safetensors").unlink()
    for content in (b"", b"PK\x03\x04 and then nothing"):
        (model / "pytorch_model.bin").write_bytes(content)
        assert "pytorch_model.bin: cut off, its end is missing" in refused(model)


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"],
)
@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
def test_a_damaged_json_file_is_named(name: str, content: str, model: Path) -> None:
    (model / name).write_bytes(content.encode(errors="surrogateescape"))
    assert f"{model / name}: damaged" in refused(model)


def test_a_folder_without_a_tokenizer(model: Path) -> None:
    for file in model.glob("*token*"):
        file.unlink()
    assert "has no tokenizer (tokenizer.json, tokenizer_config.json)" in refused(model)


def adapter_of(folder: Path, base: object, **config: object) -> Path:
    """An adapter without weights."""
    folder.mkdir()
    known = {"peft_type": "LORA", "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(known | config))
    header = b"{}      "
    (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_an_adapter_is_a_policy_with_its_base(model: Path, tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path / "adapter", str(model))
    check_folder(adapter)
    check_folder(adapter_of(tmp_path / "of-the-hub", "me/base"))
    (adapter / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors: missing" in refused(adapter)
    # Some programs would load a base from elsewhere, not the weights that lie here.
    (model / "adapter_config.json").write_text("{}")
    assert "holds a model (config.json) and an adapter (adapter_config.json, PEFT)" in refused(
        model
    )


def test_adapters_that_are_no_policy(model: Path, tmp_path: Path) -> None:
    nameless = adapter_of(tmp_path / "nameless", None)
    assert "names no base model (base_model_name_or_path)" in refused(nameless)
    other = adapter_of(tmp_path / "other", str(model), peft_type="VERA")
    assert "its adapter is of the kind VERA, and only LORA is loaded" in refused(other)
    second = adapter_of(tmp_path / "second", str(other))
    assert f"its base {other} is an adapter, too" in refused(second)
    damaged = adapter_of(tmp_path / "damaged", str(model))
    (model / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=f"model {model}: holds no weights"):
        check_folder(damaged)


def test_a_base_may_be_named_from_the_adapters_folder(model: Path, tmp_path: Path) -> None:
    adapter = adapter_of(tmp_path / "adapter", "../model", revision="main")
    assert base_of(adapter) == (str(model), "main")
    assert base_of(adapter_of(tmp_path / "of-the-hub", "me/base")) == ("me/base", "")


def test_a_saved_adapter_is_whole(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"adapter_config\.json: missing"):
        check_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"123")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cut off"):
        check_adapter(tmp_path)


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_quantised_weights_are_refused(model: Path) -> None:
    change_config(model, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "its weights are quantised (gptq), and such weights cannot be trained" in refused(model)


def test_paths_that_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("x")
    for path, message in (
        (tmp_path / "nowhere", "no such file or folder; `agent-rl init` makes one"),
        (tmp_path / "model.bin", "is a file; give the folder that holds it"),
        (tmp_path, "has no config.json, so it is no Hugging Face folder"),
    ):
        assert message in refused(path)


@pytest.mark.parametrize(("content", "message"), [(POINTER, "Git LFS"), ("GG", "no GGUF file")])
def test_a_gguf_file_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(file))}.*{message}"):
        check_gguf(file)


Damage = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b + b, lambda b: b[1:]]
)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_file_damaged_in_any_way_is_named(damage: Damage, name: str, model: Path) -> None:
    (model / name).write_bytes(damage((model / name).read_bytes()))
    assert name in refused(model)
