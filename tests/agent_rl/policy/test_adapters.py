"""A start from a folder with an adapter, as peft, TRL and this project's own checkpoints write."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from torch import Tensor

from agent_rl.config import ConfigError
from agent_rl.config.model import LoraSettings, ModelSettings
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import load_description, load_policy, load_to_train
from agent_rl.policy.lora import adapter_off, has_adapter
from agent_rl.policy.saving import save_policy
from tests.builders.adapters import by_peft

TOKENIZER = train_tokenizer(["You see a drawer 1."], 300)
IDS = torch.tensor([[5, 3, 8, 270, 30, 2]])
SETTINGS = LoraSettings(rank=4, alpha=6, target_modules=("q_proj", "v_proj"))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    sizes = ModelSettings(
        hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=48, context_length=64
    )
    save_policy(init_model(sizes, TOKENIZER, seed=0), TOKENIZER, tmp_path / "base")
    return tmp_path / "base"


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


def as_peft_reads_it(folder: Path) -> Tensor:
    return logits(AutoPeftModelForCausalLM.from_pretrained(folder, dtype=torch.float32))


def edit(folder: Path, **values: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"use_rslora": True}])
def test_an_adapter_is_merged_into_its_base(
    options: dict[str, Any], base: Path, tmp_path: Path
) -> None:
    folder = by_peft(base, tmp_path / "adapter", **options)
    model, tokenizer = load_policy(str(folder))
    assert not has_adapter(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    expected = as_peft_reads_it(folder)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-5)
    assert (expected - logits(load_policy(str(base))[0])).abs().max() > 0.1
    assert tokenizer.encode("a drawer") == TOKENIZER.encode("a drawer")
    # All weights of it are trained, and it is saved as any policy.
    dense, _ = load_to_train(str(folder), None)
    save_policy(dense, tokenizer, tmp_path / "saved")
    torch.testing.assert_close(logits(load_policy(str(tmp_path / "saved"))[0]), logits(model))


def test_an_export_in_bfloat16_rounds_once(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    exact, _ = load_policy(str(folder))
    model, _ = load_policy(str(folder), torch.bfloat16)
    assert model.config.dtype == torch.bfloat16
    rounded = {name: tensor.bfloat16() for name, tensor in exact.state_dict().items()}
    assert all(torch.equal(t, rounded[name]) for name, t in model.state_dict().items())


def test_training_goes_on_with_the_adapter(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    model, _ = load_to_train(str(folder), SETTINGS, seed=5)
    assert torch.equal(logits(model), as_peft_reads_it(folder))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 * 2
    assert all("lora_" in name for name in trained)
    with adapter_off(model):
        assert torch.equal(logits(model), logits(load_policy(str(base))[0]))
    # A checkpoint of it resumes, also if the adapter that it began with is gone.
    save_policy(model, TOKENIZER, tmp_path / "step" / "model")
    shutil.rmtree(folder)
    resumed, _ = load_to_train(str(tmp_path / "step" / "model"), SETTINGS, resume=True)
    assert torch.equal(logits(resumed), logits(model))
    # And the adapter in a checkpoint is a start, too.
    again, _ = load_to_train(str(tmp_path / "step" / "model" / "adapter"), SETTINGS)
    assert torch.equal(logits(again), logits(model))


def refused(folder: Path, settings: LoraSettings | None) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        load_to_train(str(folder), settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_settings_that_do_not_describe_the_adapter_are_told_right(
    base: Path, tmp_path: Path
) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    right = "write {rank: 4, alpha: 6, target_modules: [q_proj, v_proj]} to train that adapter on"
    message = refused(folder, LoraSettings())
    assert f"model.lora: rank 16 and alpha 32 are not those of the adapter in {folder}" in message
    assert right in message
    assert message.endswith("null trains all weights, with the adapter merged in")
    message = refused(folder, LoraSettings(rank=4, alpha=6))
    assert f"all-linear are not the layers of the adapter in {folder} (q_proj, v_proj)" in message
    assert right in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"use_dora": True}, "use_dora: True"),
        ({"use_rslora": True}, "use_rslora: True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save: ['lm_head']"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern: {'q_proj': 2}"),
    ],
)
def test_adapters_that_no_settings_describe_are_not_trained_on(
    options: dict[str, Any], said: str, base: Path, tmp_path: Path
) -> None:
    folder = by_peft(base, tmp_path / "adapter", **options)
    assert f"has {said} in its config, and such adapters are not trained on" in refused(
        folder, SETTINGS
    )


def test_a_dropout_of_the_adapter_is_left_out(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter", lora_dropout=0.1, init_lora_weights="gaussian")
    model, _ = load_to_train(str(folder), SETTINGS)
    model.train()
    assert torch.equal(logits(model), logits(model))


def test_a_base_that_is_missing_or_wrong(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    edit(folder, base_model_name_or_path=str(tmp_path / "gone"))
    for settings in (None, SETTINGS):
        message = refused(folder, settings)
        assert f"model {folder}: the base of this adapter cannot be loaded: model {tmp_path}" in (
            message
        )
        assert message.endswith("adapter_config.json names it (base_model_name_or_path)")
    with pytest.raises(ConfigError, match="the base of this adapter cannot be loaded"):
        load_description(str(folder))
    sizes = ModelSettings(hidden_size=32, layers=1, heads=1, kv_heads=1, intermediate_size=32)
    save_policy(init_model(sizes, TOKENIZER), TOKENIZER, tmp_path / "small")
    edit(folder, base_model_name_or_path="../small")
    assert f"model {folder}: cannot be loaded (" in refused(folder, None)
    assert "are not the layers of the adapter" in refused(folder, SETTINGS)


def test_weights_that_the_config_does_not_describe(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    edit(folder, target_modules=["q_proj", "v_proj", "k_proj"])
    assert "has not the weights that adapter_config.json describes" in refused(folder, None)


def test_the_tokenizer_beside_an_adapter_is_its_own(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    own = train_tokenizer(["You see a shelf 2."], 280)
    own.save_pretrained(folder)
    for _, tokenizer in (load_policy(str(folder)), load_description(str(folder))):
        assert tokenizer.encode("a shelf") == own.encode("a shelf")
    larger = train_tokenizer(["You see a drawer 1."], 300)
    larger.add_tokens(["<new>"])
    larger.save_pretrained(folder)
    assert "resize the embedding" in refused(folder, SETTINGS)


def test_the_fingerprint_is_that_of_the_adapter_and_its_base(base: Path, tmp_path: Path) -> None:
    folder = by_peft(base, tmp_path / "adapter")
    before, of_base = fingerprint(str(folder)), fingerprint(str(base))
    assert before.weights.endswith(f" on {of_base.weights}")
    shutil.copytree(folder, tmp_path / "copy")
    assert fingerprint(str(tmp_path / "copy")) == before
    edit(tmp_path / "copy", base_model_name_or_path="../base")
    assert fingerprint(str(tmp_path / "copy")) == before, "it says where the base is now"
    edit(tmp_path / "copy", lora_alpha=7)
    assert fingerprint(str(tmp_path / "copy")).weights != before.weights
    TOKENIZER.save_pretrained(folder)
    after = fingerprint(str(folder))
    assert after.weights == before.weights
    assert after.policy != before.policy
