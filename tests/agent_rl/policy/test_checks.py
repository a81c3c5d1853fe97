"""A loaded model is the one in its files and can be trained, or it is refused with a sentence."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, MistralConfig, Qwen3NextConfig

from agent_rl.config import ConfigError
from agent_rl.policy.checks import refuse_untrainable
from agent_rl.policy.loading import load_description, load_policy
from agent_rl.policy.saving import save_policy as save_loaded
from tests.builders.models import CHATML, make_tokenizer, save_policy

UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_policy(tmp_path / "model", 0)


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match=f"^model {re.escape(str(folder))}: ") as error:
        load_policy(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def change_weights(
    folder: Path,
    *,
    drop: str = "",
    prefix: str = "",
    add: Mapping[str, torch.Tensor] | None = None,
) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(drop, None)
    changed = {f"{prefix}{name}": tensor for name, tensor in weights.items()} | dict(add or {})
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


@pytest.mark.parametrize("name", ["lm_head.weight", UP])
def test_a_missing_weight_is_named(name: str, model: Path) -> None:
    change_weights(model, drop=name)
    assert f"{name} missing in its weights; they would be random" in refused(model)


def test_a_tied_head_is_not_missing(model: Path) -> None:
    change_weights(model, drop="lm_head.weight")
    change_config(model, tie_word_embeddings=True)
    load_policy(str(model))


def test_names_with_a_prefix_are_missing_and_left_over(model: Path) -> None:
    change_weights(model, prefix="base_model.model.")
    message = refused(model)
    assert "lm_head.weight, model.embed_tokens.weight, " in message
    assert "18 more missing in its weights, and base_model.model.lm_head.weight" in message


def test_a_left_over_layer_is_refused(model: Path) -> None:
    change_config(model, num_hidden_layers=1)
    assert "model.layers.1.input_layernorm.weight" in refused(model)
    assert "left over in its weights" in refused(model)


def test_what_no_policy_needs_may_be_left_over(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_weights(model, add={"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    load_policy(str(model))
    assert capsys.readouterr().out == ""
    change_weights(model, add={"v_head.summary.weight": torch.ones(1, 64)})
    load_policy(str(model))
    said = capsys.readouterr()
    assert said.out == (
        f"model {model}: v_head.summary.weight not loaded, the policy does not need them\n"
    )
    assert "LOAD REPORT" not in said.err


def test_weights_of_another_shape_are_named(model: Path) -> None:
    change_config(model, intermediate_size=96)
    assert "model.layers.0.mlp.down_proj.weight has the shape [64, 128]" in refused(model)
    assert "its config.json says [64, 96]" in refused(model)


@pytest.mark.parametrize("key", ["final_logit_softcapping", "logit_scale"])
def test_logits_beyond_a_linear_head_are_refused(key: str, model: Path) -> None:
    change_config(model, **{key: 30.0})
    assert f"its config sets {key}" in refused(model)


def with_tokens(folder: Path, *tokens: str, template: str = CHATML) -> int:
    """Add special tokens and a template to a folder's tokenizer; return its new size."""
    tokenizer: Any = make_tokenizer(chat_template=template)
    before = ["<|im_start|>", "<|im_end|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": [*before, *tokens]})
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def test_a_token_of_the_template_that_the_embedding_lacks(model: Path) -> None:
    turns = [f"<|{number}|>" for number in range(10)]
    size = with_tokens(model, *turns, template=CHATML.replace("<|im_end|>", "<|9|>"))
    rows = 304
    assert size > rows
    message = refused(model)
    assert f"its tokenizer has {size} tokens, but its embedding has {rows} rows" in message
    assert f"`model.resize_token_embeddings({size})`" in message


def test_a_token_of_the_text_that_the_embedding_lacks(model: Path) -> None:
    change_config(model, vocab_size=250)
    fewer = torch.ones(250, 64)
    change_weights(model, add={"model.embed_tokens.weight": fewer, "lm_head.weight": fewer.clone()})
    assert "its embedding has 250 rows" in refused(model)


def test_a_token_that_nothing_writes_needs_no_row(model: Path) -> None:
    assert with_tokens(model, *(f"<|{number}|>" for number in range(10))) > 304
    load_policy(str(model))


@pytest.mark.parametrize("where", ["generation_config.json", "config.json"])
def test_a_generation_config_that_cannot_be_saved_is_mended(
    where: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampling = {"do_sample": False, "temperature": 0.7, "top_p": 0.9, "eos_token_id": 1}
    if where == "config.json":
        (model / "generation_config.json").unlink()
        change_config(model, temperature=0.7)
    else:
        (model / where).write_text(json.dumps(sampling))
    loaded = load_policy(str(model))
    assert "of its generation_config.json only the token ids are kept" in capsys.readouterr().out
    save_loaded(*loaded, tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert not saved.keys() & {"temperature", "top_p"}
    assert saved["eos_token_id"] == 1
    again, _ = load_policy(str(tmp_path / "out"))
    assert capsys.readouterr().out == ""
    for name, tensor in loaded[0].state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize(
    ("own", "generation", "named"),
    [
        (1, None, 1),
        (1, 1, 1),
        (1, [1, 3], [1, 3]),
        (1, [3], [1, 3]),
        ([3, 1], 1, [3, 1]),
        (None, 3, 3),
        (None, [3, 1], [3, 1]),
        (None, None, None),
    ],
)
def test_the_config_names_all_end_tokens(
    own: Any, generation: Any, named: Any, model: Path
) -> None:
    change_config(model, eos_token_id=own)
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": generation}))
    assert load_policy(str(model))[0].config.eos_token_id == named
    assert load_description(str(model))[0].eos_token_id == named
    if generation is None:
        (model / "generation_config.json").unlink()
        assert load_description(str(model))[0].eos_token_id == named


def test_an_end_token_that_is_none_is_refused(model: Path) -> None:
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": "</s>"}))
    with pytest.raises(
        ConfigError, match=r"eos_token_id '</s>' in its config\.json or generation_"
    ):
        load_description(str(model))


def test_a_sliding_window_counts_only_if_an_episode_can_be_longer() -> None:
    mistral = MistralConfig(sliding_window=64)
    refuse_untrainable(mistral, "m", 64)
    with pytest.raises(
        ValueError, match=r"reaches back 64 .*serving\.context_length to at most 64"
    ):
        refuse_untrainable(mistral, "m", 65)
    refuse_untrainable(LlamaConfig(), "m", 100_000)


def test_layers_with_another_memory_cannot_be_packed() -> None:
    hybrid = Qwen3NextConfig(num_hidden_layers=4)
    with pytest.raises(ValueError, match="has layers of the kind linear_attention"):
        refuse_untrainable(hybrid, "m", 64)
