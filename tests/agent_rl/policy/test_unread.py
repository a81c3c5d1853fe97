"""Models whose weights stay in their files until they are read, in one process.

`test_processes_files.py` has those that ranks share.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    GenerationConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from agent_rl.config.model import LoraSettings
from agent_rl.policy import unread
from agent_rl.policy.loading import load_policy, load_to_train
from agent_rl.policy.saving import save_policy
from agent_rl.policy.unread import read_weights, to_device, unread_weights
from tests.builders.models import make_tokenizer
from tests.builders.models import save_policy as small_policy
from tests.builders.tiny_learner import MakeModel

CPU = torch.device("cpu")


def assert_same_model(model: PreTrainedModel, expected: PreTrainedModel) -> None:
    """Names, weights, which are trained, and buffers, those that no file holds included."""
    for kind in ("named_parameters", "named_buffers"):
        ours, theirs = (dict(getattr(each, kind)()) for each in (model, expected))
        assert list(ours) == list(theirs)
        for name, tensor in ours.items():
            assert tensor.dtype == theirs[name].dtype, name
            assert tensor.requires_grad == theirs[name].requires_grad, name
            assert torch.equal(tensor, theirs[name]), name


def is_unread(model: PreTrainedModel) -> bool:
    return unread_weights(model) is not None


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("size", ["50GB", "10KB"])
def test_reading_gives_the_model_that_loading_gives(
    tied: bool, size: str, tmp_path: Path, tiny_model: MakeModel
) -> None:
    stored = tiny_model(tied=tied, vocab_size=304).bfloat16()
    stored.save_pretrained(tmp_path, max_shard_size=size)
    make_tokenizer().save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or size == "50GB"
    model, _ = load_policy(str(tmp_path), shared=True)
    assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert {buffer.device.type for buffer in model.buffers()} == {"cpu"}
    model = to_device(model, CPU)
    read_weights(model, CPU)
    assert not is_unread(model)
    assert_same_model(model, load_policy(str(tmp_path))[0])
    assert isinstance(model, LlamaForCausalLM)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied
    ids = torch.tensor([[5, 3, 8]])
    assert torch.equal(model(ids).logits, load_policy(str(tmp_path))[0](ids).logits)


@pytest.mark.parametrize("generation", [True, False])
def test_it_is_saved_as_the_loaded_one(generation: bool, tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "model", 0)
    if not generation:
        (folder / "generation_config.json").unlink()
    for shared in (True, False):
        model, tokenizer = load_policy(str(folder), shared=shared)
        read_weights(model, CPU)
        save_policy(model, tokenizer, tmp_path / str(shared))
    for path in (tmp_path / "False").iterdir():
        assert (tmp_path / "True" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("resume", [False, True])
def test_an_adapter_has_its_numbers_before_the_base_is_read(resume: bool, tmp_path: Path) -> None:
    source = small_policy(tmp_path / "base", 0)
    lora = LoraSettings(rank=2, alpha=4)
    if resume:
        model, tokenizer = load_to_train(str(source), lora, seed=1)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.1 if weight.requires_grad else 0.0)
        save_policy(model, tokenizer, tmp_path / "saved")
        source = tmp_path / "saved"
    model, _ = load_to_train(str(source), lora, resume=resume, seed=2, shared=True)
    assert {w.device.type for w in model.parameters() if w.requires_grad} == {"cpu"}
    assert {w.device.type for w in model.parameters() if not w.requires_grad} == {"meta"}
    read_weights(model, CPU)
    assert_same_model(model, load_to_train(str(source), lora, resume=resume, seed=2)[0])


def test_a_base_that_changed_is_noticed_before_it_is_read(tmp_path: Path) -> None:
    source, lora = small_policy(tmp_path / "base", 0), LoraSettings(rank=2, alpha=4)
    save_policy(*load_to_train(str(source), lora), tmp_path / "saved")
    small_policy(source, 1)
    with pytest.raises(ValueError, match="is not the one that this adapter was trained on"):
        load_to_train(str(tmp_path / "saved"), lora, resume=True, shared=True)


def test_files_that_have_to_be_converted_are_loaded_whole(tmp_path: Path) -> None:
    config = MixtralConfig(
        vocab_size=304,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        num_local_experts=2,
    )
    MixtralForCausalLM(config).save_pretrained(tmp_path / "experts")  # type: ignore[no-untyped-call]
    make_tokenizer().save_pretrained(tmp_path / "experts")
    pickled = small_policy(tmp_path / "pickled", 0)
    model, _ = load_policy(str(pickled))
    torch.save(model.state_dict(), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    for folder in (tmp_path / "experts", pickled):
        model, _ = load_policy(str(folder), shared=True)
        assert not is_unread(model)
        assert_same_model(model, load_policy(str(folder))[0])


def test_what_is_wrong_with_the_files_is_told_as_ever(tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "model", 0)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ValueError, match="missing in its weights"):
        load_policy(str(folder), shared=True)


def test_a_model_of_the_hub_is_fetched_by_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_policy(tmp_path / "model", 0)
    asked: list[dict[str, Any]] = []

    def fetch(name: str, **options: Any) -> str:
        asked.append({"name": name, **options})
        return str(folder)

    for auto in (AutoConfig, GenerationConfig):
        of_folder = auto.from_pretrained
        monkeypatch.setattr(
            auto,
            "from_pretrained",
            lambda _, of_folder=of_folder, **__: of_folder(folder),
        )
    monkeypatch.setattr(unread, "snapshot_download", fetch)
    model = unread.unread_model("someone/model", torch.float32, revision="abc")
    assert model is not None
    assert (asked[0]["name"], asked[0]["revision"]) == ("someone/model", "abc")
    assert "*.bin" not in asked[0]["allow_patterns"]
    monkeypatch.undo()
    read_weights(model, CPU)
    assert_same_model(model, load_policy(str(folder))[0])
