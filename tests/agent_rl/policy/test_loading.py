import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from agent_rl.config.model import ModelSettings
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import load_policy, save_policy
from agent_rl.policy.weight_sync import save_for_serving

TEXTS = ["You are in the middle of a room. You see a drawer 1, a shelf 2.\n> go to drawer 1"] * 3


def test_tied_embeddings_are_one_matrix_here_and_two_for_serving(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    model = init_model(
        ModelSettings(hidden_size=64, heads=2, layers=1, context_length=64, tied=True), tokenizer
    )
    assert model.lm_head.weight is model.model.embed_tokens.weight
    save_policy(model, tokenizer, tmp_path / "policy")
    loaded, _ = load_policy(str(tmp_path / "policy"))
    assert isinstance(loaded, LlamaForCausalLM)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    save_for_serving(model, tmp_path / "served", "float32")
    served = load_file(tmp_path / "served" / "model.safetensors")
    assert torch.equal(served["lm_head.weight"], served["model.embed_tokens.weight"])
    assert not json.loads((tmp_path / "served" / "config.json").read_text())["tie_word_embeddings"]


def test_a_new_policy_survives_its_folder(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, 300)
    settings = ModelSettings(
        hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=24, context_length=64
    )
    model = init_model(settings, tokenizer, seed=3)
    assert torch.equal(model.lm_head.weight, init_model(settings, tokenizer, seed=3).lm_head.weight)
    assert not torch.equal(
        model.lm_head.weight, init_model(settings, tokenizer, seed=4).lm_head.weight
    )
    save_policy(model, tokenizer, tmp_path)
    loaded, loaded_tokenizer = load_policy(str(tmp_path), torch.float32)
    assert (loaded.config.vocab_size, loaded.config.max_position_embeddings) == (len(tokenizer), 64)
    assert loaded_tokenizer.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_a_source_without_a_model_is_refused_at_once(tmp_path: Path) -> None:
    start = time.perf_counter()
    with pytest.raises(ValueError, match=r"no such file or folder; `agent-rl init` makes one"):
        load_policy(str(tmp_path / "nowhere"), torch.float32)
    with pytest.raises(ValueError, match=r"has no config\.json.*give the folder that holds"):
        load_policy(str(tmp_path), torch.float32)
    with pytest.raises(ValueError, match=r"no such file or folder"):
        load_policy("./model.gguf", torch.float32)
    assert time.perf_counter() - start < 1.0


def test_a_mistyped_folder_next_to_others_is_not_taken_for_a_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        load_policy("runs/inti", torch.float32)
