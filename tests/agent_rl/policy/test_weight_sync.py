import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM, MixtralForCausalLM

from agent_rl.config import ConfigError
from agent_rl.config.model import LoraSettings
from agent_rl.policy import weight_sync
from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.lora import with_lora
from agent_rl.policy.weight_sync import (
    ServingCopy,
    save_for_serving,
    served_bytes,
    served_files,
)
from rollouts.processes import serving_folder
from tests.builders.tiny_learner import make_tiny_experts


@pytest.mark.parametrize("tied", [True, False])
def test_the_serving_copy_has_its_own_head(
    tied: bool, tmp_path: Path, tiny_model: Callable[..., LlamaForCausalLM]
) -> None:
    model = tiny_model(tied=tied, dtype=torch.float32)
    save_for_serving(model, tmp_path, "bfloat16")
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["tie_word_embeddings"], config["dtype"]) == (False, "bfloat16")
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert model.config.tie_word_embeddings is tied
    weights = load_file(tmp_path / "model.safetensors")
    assert set(weights) == set(tiny_model(tied=False).state_dict())
    assert torch.equal(weights["lm_head.weight"], model.lm_head.weight.bfloat16())
    assert torch.equal(weights["lm_head.weight"], weights["model.embed_tokens.weight"]) is tied


def test_experts_are_served_by_the_names_of_files(tmp_path: Path) -> None:
    model: Any = make_tiny_experts(dtype=torch.float32, tie_word_embeddings=True)
    save_for_serving(model, tmp_path, "float32")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["MixtralForCausalLM"]
    weights = load_file(tmp_path / "model.safetensors")
    # vLLM knows no others, and would serve without those that it does not know.
    assert "model.layers.1.block_sparse_moe.experts.2.w2.weight" in weights
    assert not [name for name in weights if ".mlp." in name]
    served = MixtralForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name, weight in model.state_dict().items():
        assert torch.equal(served.state_dict()[name], weight), name


def test_a_later_copy_replaces_the_weights_only(
    tmp_path: Path, tiny_model: Callable[..., LlamaForCausalLM]
) -> None:
    model = tiny_model(tied=True, dtype=torch.float32)
    save_for_serving(model, tmp_path, "float32")
    written = (tmp_path / "config.json").stat().st_mtime_ns
    with torch.no_grad():
        model.model.embed_tokens.weight += 1.0
    save_for_serving(model, tmp_path, "float32")
    assert (tmp_path / "config.json").stat().st_mtime_ns == written
    served = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(served(input_ids=ids).logits, model(input_ids=ids).logits)
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    assert not list(tmp_path.glob("*.unfinished*"))


def test_each_write_has_the_present_weights_and_close_deletes_the_folder(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    model = tiny_model(dtype=torch.float32)
    copy = ServingCopy(model, train_tokenizer(["a room"], 260), "float32")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(os.listdir(copy.folder))
    with torch.no_grad():
        model.lm_head.weight.fill_(0.5)
    copy.write()
    served = load_file(copy.folder / "model.safetensors")["lm_head.weight"]
    assert torch.equal(served, torch.full_like(served, 0.5))
    copy.close()
    assert not copy.folder.exists()


def test_two_copies_of_one_process_are_two_private_folders(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    tokenizer = train_tokenizer(["a room"], 260)
    model = tiny_model(dtype=torch.float32)
    a = ServingCopy(model, tokenizer, "float32")
    with torch.no_grad():
        model.lm_head.weight.fill_(0.5)
    b = ServingCopy(model, tokenizer, "float32")
    assert a.folder != b.folder
    heads = [load_file(copy.folder / "model.safetensors")["lm_head.weight"] for copy in (a, b)]
    assert [bool((head == 0.5).all()) for head in heads] == [False, True]
    assert {copy.folder.stat().st_mode & 0o777 for copy in (a, b)} == {0o700}
    b.close()
    assert a.folder.exists()
    a.close()
    assert not a.folder.exists()


def test_the_size_counts_the_head_that_is_untied(
    tmp_path: Path, tiny_model: Callable[..., LlamaForCausalLM]
) -> None:
    for tied in (False, True):
        model = tiny_model(tied=tied)
        save_for_serving(model, tmp_path, "bfloat16")
        written = load_file(tmp_path / "model.safetensors").values()
        assert served_bytes(model, "bfloat16") == sum(tensor.nbytes for tensor in written)


def adapted(model: LlamaForCausalLM) -> Any:
    """The model with an adapter that changes it, as after some training."""
    changed = with_lora(model, LoraSettings(rank=2, alpha=6), source="tiny")
    change(changed)
    return changed


def change(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)


@pytest.mark.parametrize("tied", [True, False])
def test_of_a_served_adapter_the_base_is_written_once(
    tied: bool, tiny_model: Callable[..., LlamaForCausalLM]
) -> None:
    model = adapted(tiny_model(tied=tied, dtype=torch.float32))
    copy = ServingCopy(model, train_tokenizer(["a room"], 260), "float32", lora="adapter")
    base = (copy.folder / "model.safetensors").stat()
    ids = torch.tensor([[1, 2, 3]])
    for _ in range(2):
        plain = LlamaForCausalLM.from_pretrained(copy.folder, dtype=torch.float32)
        served = PeftModel.from_pretrained(plain, copy.folder / "served_adapter")
        with torch.no_grad():
            assert torch.equal(served(input_ids=ids).logits, model(input_ids=ids).logits)
            with model.disable_adapter(), served.disable_adapter():
                assert torch.equal(served(input_ids=ids).logits, model(input_ids=ids).logits)
        change(model)
        copy.write()
    after = (copy.folder / "model.safetensors").stat()
    assert (after.st_ino, after.st_mtime_ns) == (base.st_ino, base.st_mtime_ns)
    assert {path.name for path in (copy.folder / "served_adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    copy.close()


def test_a_served_adapter_has_the_dtype_of_the_base(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    model = adapted(tiny_model(dtype=torch.float32))
    first = served_files(model, "bfloat16", "adapter")
    adapter = first["served_adapter/adapter_model.safetensors"]
    assert {tensor.dtype for tensor in adapter.values()} == {torch.bfloat16}
    assert set(served_files(model, "bfloat16", "adapter", again=True)) == {
        "served_adapter/adapter_model.safetensors"
    }
    assert set(served_files(model, "bfloat16", again=True)) == {"model.safetensors"}
    # Without an adapter there is nothing to serve apart, as in the warm start.
    assert set(served_files(tiny_model(), "bfloat16", "adapter", again=True)) == {
        "model.safetensors"
    }


def fill_disk(monkeypatch: pytest.MonkeyPatch, full: Callable[[Path], bool]) -> None:
    """Let `save_file` fail in some folders as it does on a full disk."""

    def save(weights: Any, path: Path, metadata: Any) -> None:
        if full(path):
            path.write_bytes(b"a part")
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        save_file(weights, path, metadata=metadata)

    monkeypatch.setattr(weight_sync, "save_file", save)


def test_a_place_that_becomes_full_is_left_for_the_temporary_folder(
    tmp_path: Path,
    tiny_model: Callable[..., LlamaForCausalLM],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(serving_folder, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model = tiny_model(dtype=torch.float32)
    copy = ServingCopy(model, train_tokenizer(["a room"], 260), "float32")
    first = copy.folder
    assert first.parent == memory
    fill_disk(monkeypatch, lambda path: path.is_relative_to(memory))
    copy.write()
    assert copy.folder.parent == temporary
    assert f"{memory} is full: the served weights go to {temporary}" in caplog.text
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(os.listdir(copy.folder))
    # Workers read the tokenizer of the first folder; its weights only take room.
    assert "tokenizer.json" in os.listdir(first)
    assert not list(first.glob("model.safetensors*"))
    fill_disk(monkeypatch, lambda path: True)
    with pytest.raises(ConfigError, match=rf"{temporary}: full, .* a larger folder in TMPDIR"):
        copy.write()
    copy.close()
    assert [*memory.iterdir(), *temporary.iterdir()] == []


def test_the_base_of_an_adapter_moves_with_it(
    tmp_path: Path, tiny_model: Callable[..., LlamaForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(serving_folder, "MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    model = adapted(tiny_model(dtype=torch.float32))
    copy = ServingCopy(model, train_tokenizer(["a room"], 260), "float32", lora="adapter")
    base = (copy.folder / "model.safetensors").read_bytes()
    fill_disk(monkeypatch, lambda path: path.is_relative_to(memory))
    change(model)
    copy.write()
    assert copy.folder.parent == temporary
    assert (copy.folder / "model.safetensors").read_bytes() == base
    served = load_file(copy.folder / "served_adapter" / "adapter_model.safetensors")
    expected = served_files(model, "float32", "adapter", again=True).popitem()[1]
    assert all(torch.equal(tensor, served[name]) for name, tensor in expected.items())
    copy.close()
    assert [*memory.iterdir(), *temporary.iterdir()] == []


def test_a_start_without_room_leaves_nothing(
    tmp_path: Path, tiny_model: Callable[..., LlamaForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_folder, "MEMORY", tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fill_disk(monkeypatch, lambda path: True)
    with pytest.raises(ConfigError, match="full, so the new weights"):
        ServingCopy(tiny_model(), train_tokenizer(["a room"], 260), "float32")
    assert list(tmp_path.iterdir()) == []
