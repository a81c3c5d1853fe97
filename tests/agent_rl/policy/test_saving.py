"""A policy's folder has the files that transformers would write, made one weight at a time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

from agent_rl.config.model import LoraSettings
from agent_rl.policy import saving
from agent_rl.policy.loading import load_policy, load_to_train
from agent_rl.policy.lora import merged_weights, without_wrapper
from agent_rl.policy.saving import save_policy
from agent_rl.policy.whole import whole_weights
from tests.builders.models import make_tokenizer
from tests.builders.models import save_policy as small_policy
from tests.builders.tiny_learner import MakeModel


def assert_same_folder(folder: Path, expected: Path) -> None:
    names = {path.name for path in expected.iterdir()}
    assert {path.name for path in folder.iterdir()} - {"adapter"} == names
    for name in names - {"model.safetensors"}:
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    weights, others = (load_file(at / "model.safetensors") for at in (folder, expected))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        assert weight.dtype == others[name].dtype, name
        assert torch.equal(weight, others[name]), name


@pytest.mark.parametrize("tied", [False, True])
def test_it_is_what_transformers_writes(tied: bool, tmp_path: Path, tiny_model: MakeModel) -> None:
    model, tokenizer = tiny_model(tied=tied, vocab_size=304), make_tokenizer()
    for at in ("theirs", "ours"):
        tokenizer.save_pretrained(tmp_path / at)
    model.save_pretrained(tmp_path / "theirs")
    save_policy(model, tokenizer, tmp_path / "ours")
    assert_same_folder(tmp_path / "ours", tmp_path / "theirs")


def test_an_adapter_is_merged_one_weight_at_a_time(tmp_path: Path) -> None:
    source = small_policy(tmp_path / "base", 0)
    model, tokenizer = load_to_train(str(source), LoraSettings(rank=2, alpha=4))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.1)
    inner = without_wrapper(model)
    inner.save_pretrained(tmp_path / "theirs", state_dict=whole_weights(merged_weights(model)))
    tokenizer.save_pretrained(tmp_path / "theirs")
    save_policy(model, tokenizer, tmp_path / "ours")
    assert_same_folder(tmp_path / "ours", tmp_path / "theirs")


def test_experts_are_taken_apart_as_transformers_does(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=304,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    model: Any = MixtralForCausalLM(config)  # type: ignore[no-untyped-call]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "theirs")
    save_policy(model, tokenizer, tmp_path / "ours")
    assert_same_folder(tmp_path / "ours", tmp_path / "theirs")
    loaded, _ = load_policy(str(tmp_path / "ours"))
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


def test_a_full_disk_keeps_no_other_process_waiting(
    tmp_path: Path, tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def gathered(named: Any) -> Any:
        for name, tensor in named:
            taken.append(name)
            yield name, tensor

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "gathered", gathered)
    monkeypatch.setattr(saving, "write_tensors", full)
    model = tiny_model()
    with pytest.raises(OSError, match="No space left"):
        save_policy(model, make_tokenizer(), tmp_path / "model")
    assert taken == list(model.state_dict())
