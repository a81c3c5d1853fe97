import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, MixtralForCausalLM, PreTrainedModel

from agent_rl.config.model import LoraSettings, ModelSettings
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import decoder_and_head, load_policy, load_to_train
from agent_rl.policy.lora import adapter_off, has_adapter, merged_weights, with_lora
from agent_rl.policy.saving import save_policy
from agent_rl.policy.weight_sync import save_for_serving
from tests.builders.tiny_learner import make_tiny_experts

SETTINGS = LoraSettings(rank=2, alpha=6)
TOKENIZER = train_tokenizer(["You see a drawer 1."], 300)
IDS = torch.tensor([[5, 3, 8, 270, 30, 2]])
MakeModel = Callable[..., LlamaForCausalLM]


def new_base(seed: int = 0) -> PreTrainedModel:
    sizes = ModelSettings(
        hidden_size=64, layers=2, heads=2, kv_heads=1, intermediate_size=48, context_length=64
    )
    return init_model(sizes, TOKENIZER, seed=seed)


@pytest.fixture
def base_folder(tmp_path: Path) -> Path:
    save_policy(new_base(), TOKENIZER, tmp_path / "base")
    return tmp_path / "base"


def adapted(source: Path, lora: LoraSettings = SETTINGS, *, seed: int = 0) -> PreTrainedModel:
    """A model as after some training: B is no longer zero."""
    model, _ = load_to_train(str(source), lora, seed=seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@torch.no_grad()
def logits(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(input_ids=IDS).logits
    return found


def test_a_new_adapter_changes_nothing_yet(base_folder: Path) -> None:
    base, _ = load_policy(str(base_folder))
    state = torch.get_rng_state()
    model, _ = load_to_train(str(base_folder), SETTINGS, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), logits(base))
    again, _ = load_to_train(str(base_folder), SETTINGS, seed=3)
    other, _ = load_to_train(str(base_folder), SETTINGS, seed=4)
    drawn = [model.state_dict(), again.state_dict(), other.state_dict()]
    assert all(torch.equal(tensor, drawn[1][name]) for name, tensor in drawn[0].items())
    assert not all(torch.equal(tensor, drawn[2][name]) for name, tensor in drawn[0].items())


def test_only_the_adapter_learns(base_folder: Path) -> None:
    model = adapted(base_folder)
    model(input_ids=IDS, labels=IDS).loss.backward()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    # Seven linear layers in each of two layers of the decoder, and none of the head.
    assert len(trained) == 2 * 7 * 2
    assert not any("lm_head" in name or "embed" in name for name in trained)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained.values())


def test_without_the_adapter_it_is_the_base(base_folder: Path) -> None:
    base, _ = load_policy(str(base_folder))
    model = adapted(base_folder)
    before = logits(model)
    assert (before - logits(base)).abs().max() > 1e-3
    with adapter_off(model):
        assert torch.equal(logits(model), logits(base))
    assert torch.equal(logits(model), before)
    assert all(p.requires_grad == ("lora_" in name) for name, p in model.named_parameters())
    with (
        pytest.raises(
            ValueError, match=r"LlamaForCausalLM: has no adapter to switch off; set model\.lora"
        ),
        adapter_off(base),
    ):
        pass


@pytest.mark.parametrize("tied", [False, True])
def test_the_decoder_and_the_head(tied: bool, tiny_model: MakeModel) -> None:
    plain = tiny_model(tied=tied)
    decoder, head = decoder_and_head(plain)
    assert decoder is plain.model
    assert head is plain.lm_head
    model = with_lora(plain, SETTINGS, source="tiny")
    assert has_adapter(model)
    assert decoder_and_head(model) == (decoder, head)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
        ids = IDS % 32
        hidden = decoder(input_ids=ids).last_hidden_state
        assert torch.equal(head(hidden), model(input_ids=ids).logits)


@pytest.mark.parametrize("tied", [False, True])
def test_the_served_model_is_the_merged_one(
    tied: bool, tmp_path: Path, tiny_model: MakeModel
) -> None:
    plain = tiny_model(tied=tied, dtype=torch.float32)
    names = set(plain.state_dict())
    model = with_lora(plain, SETTINGS, source="tiny")
    save_for_serving(model, tmp_path, "float32")
    ids = IDS % 32
    for _ in range(2):  # the second time replaces the first one's weights
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(0.05)
            before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            save_for_serving(model, tmp_path, "float32")
            assert all(
                torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()
            )
            served = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
            torch.testing.assert_close(
                served(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=1e-5
            )
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["tie_word_embeddings"] is False
    assert {name for name, _ in merged_weights(model)} == names
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_policy_is_an_ordinary_one(
    tied: bool, tmp_path: Path, tiny_model: MakeModel
) -> None:
    tiny = tiny_model(tied=tied, dtype=torch.float32, vocab_size=len(TOKENIZER))
    tiny.save_pretrained(tmp_path / "base")
    TOKENIZER.save_pretrained(tmp_path / "base")
    model = adapted(tmp_path / "base")
    save_policy(model, TOKENIZER, tmp_path / "policy")
    merged, tokenizer = load_policy(str(tmp_path / "policy"))
    assert not has_adapter(merged)
    assert merged.config.tie_word_embeddings is tied
    assert tokenizer.encode("a drawer") == TOKENIZER.encode("a drawer")
    ids = IDS % 32
    with torch.no_grad():
        torch.testing.assert_close(
            merged(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=1e-5
        )
    assert {path.name for path in (tmp_path / "policy" / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_a_resumed_adapter_is_the_very_same(
    targets: Any, base_folder: Path, tmp_path: Path
) -> None:
    settings = LoraSettings(rank=3, alpha=5, target_modules=targets)
    model = adapted(base_folder, settings)
    save_policy(model, TOKENIZER, tmp_path / "step" / "model")
    resumed, tokenizer = load_to_train(
        str(tmp_path / "step" / "model"), settings, resume=True, seed=7
    )
    assert len(tokenizer) == len(TOKENIZER)
    assert resumed.state_dict().keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    assert flags == {name: p.requires_grad for name, p in resumed.named_parameters()}
    assert torch.equal(logits(resumed), logits(model))


def test_other_tools_read_the_adapter(base_folder: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    model = adapted(base_folder)
    save_policy(model, TOKENIZER, tmp_path / "policy")
    read = AutoPeftModelForCausalLM.from_pretrained(
        tmp_path / "policy" / "adapter", dtype=torch.float32
    )
    assert torch.equal(logits(read), logits(model))


def test_a_run_folder_may_be_moved(tmp_path: Path) -> None:
    save_policy(new_base(), TOKENIZER, tmp_path / "run" / "init")
    model = adapted(tmp_path / "run" / "init")
    save_policy(model, TOKENIZER, tmp_path / "run" / "train" / "model")
    (tmp_path / "run").rename(tmp_path / "moved")
    resumed, _ = load_to_train(str(tmp_path / "moved" / "train" / "model"), SETTINGS, resume=True)
    assert torch.equal(logits(resumed), logits(model))


def test_a_new_run_puts_a_new_adapter_on_the_merged_weights(
    base_folder: Path, tmp_path: Path
) -> None:
    save_policy(adapted(base_folder), TOKENIZER, tmp_path / "policy")
    merged, _ = load_policy(str(tmp_path / "policy"))
    model, _ = load_to_train(str(tmp_path / "policy"), SETTINGS)
    with adapter_off(model):
        assert torch.equal(logits(model), logits(merged))
    dense, _ = load_to_train(str(tmp_path / "policy"), None)
    assert all(parameter.requires_grad for parameter in dense.parameters())


def test_other_settings_or_another_base_cannot_be_resumed(
    base_folder: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "policy"
    save_policy(adapted(base_folder), TOKENIZER, policy)

    def refused(lora: LoraSettings | None, source: Path = policy) -> str:
        with pytest.raises(ValueError, match="adapter") as error:
            load_to_train(str(source), lora, resume=True)
        return str(error.value)

    assert (
        refused(None)
        == f"model.lora: is not set, but {policy} was trained with an adapter; set it as it was"
    )
    assert "was trained without an adapter; remove it" in refused(SETTINGS, base_folder)
    assert f"model.lora.rank: 4 differs from the 2 of the adapter in {policy}/adapter" in refused(
        LoraSettings(rank=4)
    )
    assert "model.lora.alpha: 32 differs from the 6" in refused(LoraSettings(rank=2))
    narrower = LoraSettings(rank=2, alpha=6, target_modules=("q_proj",))
    assert "model.lora.target_modules: q_proj are not the layers of the adapter" in refused(
        narrower
    )
    shutil.rmtree(base_folder)
    save_policy(new_base(seed=1), TOKENIZER, base_folder)
    assert f"the model in {base_folder} is not the one that this adapter was trained on" in refused(
        SETTINGS
    )
    shutil.rmtree(base_folder)
    assert f"cannot be loaded: model {base_folder}: no such file or folder" in refused(SETTINGS)
    assert f"model.path={policy}" in refused(SETTINGS)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ("q_porj",),
            r"target_modules: q_porj: no adapter can be put there .*linear layers are down_proj, "
            r".*q_proj",
        ),
        (
            ("q_proj", "lm_head"),
            r"lm_head, q_proj adapts the model's head.*name layers of the decoder",
        ),
        (("embed_tokens",), r"embed_tokens adapts the model's input embedding"),
        (("norm",), r"norm: no adapter can be put there"),
    ],
)
def test_layers_that_take_no_adapter(targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_lora(new_base(), LoraSettings(target_modules=targets), source="base")


def test_beside_experts_an_adapter_is_on_the_attention(tmp_path: Path) -> None:
    plain: Any = make_tiny_experts(dtype=torch.float32)
    model: Any = with_lora(plain, SETTINGS, source="tiny")
    trained = {
        name.partition(".layers.")[2].split(".")[2]
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert trained == {f"{letter}_proj" for letter in "qkvo"}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.05)
    ids = IDS % 32
    with model.disable_adapter():
        without = model(input_ids=ids).logits
    # Far more than rounding, so the comparison below sees an adapter that is left out.
    assert (model(input_ids=ids).logits - without).abs().max() > 0.1
    save_for_serving(model, tmp_path, "float32")
    served = MixtralForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(
        served(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        # The names that experts have in files; peft looks for the stacks then.
        (
            ("w1", "w3", "w2"),
            r"w1, w2, w3 adapts experts or .*layers of k_proj, lm_head, o_proj, q_proj, v_proj",
        ),
        (("q_proj", "w2"), r"q_proj, w2 adapts experts"),
        (("gate",), r"gate adapts experts or their router"),
        (("gate_up_proj",), r"gate_up_proj: no adapter can be put there"),
    ],
)
def test_experts_and_their_router_take_no_adapter(targets: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_lora(make_tiny_experts(), LoraSettings(target_modules=targets), source="tiny")
