import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.weight_sync import ServingCopy, save_for_serving


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


def test_each_write_is_a_version_and_close_deletes_the_folder(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    model = tiny_model(dtype=torch.float32)
    copy = ServingCopy(model, train_tokenizer(["a room"], 260), "float32")
    assert copy.version == 0
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(os.listdir(copy.folder))
    with torch.no_grad():
        model.lm_head.weight.fill_(0.5)
    copy.write()
    assert copy.version == 1
    served = load_file(copy.folder / "model.safetensors")["lm_head.weight"]
    assert torch.equal(served, torch.full_like(served, 0.5))
    copy.close()
    assert not copy.folder.exists()


def test_a_copy_of_a_killed_process_is_deleted_by_the_next_one(
    tiny_model: Callable[..., LlamaForCausalLM],
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    model, tokenizer = tiny_model(dtype=torch.float32), train_tokenizer(["a room"], 260)
    copy = ServingCopy(model, tokenizer, "float32")
    orphan = copy.folder.with_name(f"agent-rl-weights-{ended.pid}")
    orphan.mkdir()
    copy.close()
    ServingCopy(model, tokenizer, "float32").close()
    assert not orphan.exists()
