import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from agent_rl.config.model import ModelSettings, TokensWithin
from agent_rl.policy.loading import (
    init_model,
    load_policy,
    save_for_serving,
    save_policy,
    train_tokenizer,
)

TEXTS = ["You are in the middle of a room. You see a drawer 1, a shelf 2.\n> go to drawer 1"] * 3


@pytest.mark.parametrize("within", ["words", "names"])
@pytest.mark.parametrize(
    "text", [*TEXTS[:1], "  two  spaces\t\n", "Grüße, 世界 🌍 7", "don't , stop .", "12 drawer 12"]
)
def test_the_tokenizer_is_lossless(text: str, within: TokensWithin) -> None:
    tokenizer = train_tokenizer(TEXTS, 400, within)
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id} & set(ids)


def test_the_tokenizer_learns_words_and_has_its_special_tokens() -> None:
    tokenizer = train_tokenizer(TEXTS, 400)
    assert tokenizer.tokenize("You see a drawer 1") == ["You", "Ġsee", "Ġa", "Ġdrawer", "Ġ1"]
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == (
        "<|pad|>",
        "<|bos|>",
        "<|end|>",
    )
    assert tokenizer.encode("go<|end|>", add_special_tokens=False)[-1] == tokenizer.eos_token_id
    with pytest.raises(ValueError, match="vocab_size 258 is below 259"):
        train_tokenizer(TEXTS, 258)


def test_a_name_with_its_number_may_be_one_token() -> None:
    tokenizer = train_tokenizer(
        ["You see a drawer 12, and a mug 3. On it, a mug."] * 2, 400, "names"
    )
    tokens = tokenizer.tokenize("You see a drawer 12, and a mug 3. On it")
    assert tokens == ["You", "Ġsee", "Ġa", "ĠdrawerĠ12", ",Ġand", "Ġa", "ĠmugĠ3", ".ĠOn", "Ġit"]
    # With a number that the corpus does not have, and across the end of a line, it is cut.
    assert tokenizer.tokenize(" mug 9")[-1] == "9"
    assert tokenizer.tokenize(" mug\n3") == ["Ġmug", "Ċ", "3"]


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


def test_what_is_no_model_is_said_at_once(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("tied", [True, False])
def test_the_serving_copy_has_a_head_of_its_own(
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
    assert not list(tmp_path.glob("*.unfinished"))
