import json
import pickle
import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import RevisionNotFoundError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from agent_rl.config.model import LoraSettings, ModelSettings
from agent_rl.policy import loading
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import (
    load_description,
    load_policy,
    load_to_train,
    policy_loader,
)
from agent_rl.policy.saving import save_policy
from agent_rl.policy.weight_sync import save_for_serving
from rollouts.rendering.end_tokens import end_ids_of_folder
from tests.builders.models import save_policy as small_policy

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


def test_a_description_has_the_config_and_the_tokenizer_but_reads_no_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small_policy(tmp_path / "policy", 0)
    model, tokenizer = load_policy(str(folder))
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)
    config, again = load_description(str(folder))
    # It says how the weights are stored, not how they would be loaded.
    assert {**config.to_dict(), "dtype": "float32"} == model.config.to_dict()
    assert again.get_vocab() == tokenizer.get_vocab()
    again.add_tokens([f"<|{number}|>" for number in range(model.config.vocab_size)])
    again.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"its tokenizer has \d+ tokens, but its embedding has"):
        load_description(str(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match=r"tokenizer\.json: "):
        load_description(str(folder))


def test_a_loader_finds_its_policy_from_another_folder_and_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_policy(tmp_path / "policy", 0)
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(policy_loader("policy", LoraSettings(rank=2), seed=3))
    assert len(sent) < 1000
    monkeypatch.chdir("/")
    model, _ = pickle.loads(sent)()
    assert model.peft_config["default"].base_model_name_or_path == str(tmp_path / "policy")


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


def change_config(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def refused(source: str, revision: str = "") -> str:
    with pytest.raises(ValueError, match=re.escape(source)) as error:
        load_policy(source, revision=revision)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_code_that_comes_with_a_model_is_never_run(tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "model", 0)
    mark = tmp_path / "mark"
    (folder / "own.py").write_text(f"open({str(mark)!r}, 'w')\nclass C: pass\n")
    code = {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.C"}
    change_config(folder, model_type="own", auto_map=code)
    message = refused(str(folder))
    assert f"model {folder}: needs Python code of its own (trust_remote_code)" in message
    assert not mark.exists()


@pytest.mark.parametrize(
    "values",
    [{"model_type": "strange"}, {"hidden_size": "a"}, {"vocab_size": -3}, {"model_type": None}],
)
def test_a_config_that_no_model_has_is_an_error_of_the_folder(
    values: dict[str, object], tmp_path: Path
) -> None:
    folder = small_policy(tmp_path / "model", 0)
    change_config(folder, **values)
    assert f"model {folder}: cannot be loaded (" in refused(str(folder))


def test_a_tokenizer_that_cannot_be_read_is_an_error_of_the_folder(tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "model", 0)
    (folder / "tokenizer.json").write_text("{}")
    assert f"model {folder}: its tokenizer cannot be loaded (" in refused(str(folder))


def from_hub(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[dict[str, object]]:
    """Let every load from the hub raise `error`; returns the options of the loads."""
    asked = []

    def from_pretrained(_: str, **options: object) -> None:
        asked.append(options)
        raise error

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    return asked


def test_a_gated_model_says_how_to_log_in(monkeypatch: pytest.MonkeyPatch) -> None:
    from_hub(monkeypatch, OSError("You are trying to access a gated repo.\n401 Client Error."))
    message = refused("someone/gated")
    assert "model someone/gated: is gated on the hub" in message
    assert "log in with `hf auth login`" in message


def test_a_model_that_is_not_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from_hub(monkeypatch, OSError("someone/nothing is not a local folder"))
    assert "'someone/nothing' is no folder here and could not be fetched" in refused(
        "someone/nothing"
    )


def test_a_revision_pins_a_model_of_the_hub(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    error = OSError("no such revision")
    error.__cause__ = RevisionNotFoundError.__new__(RevisionNotFoundError)
    asked = from_hub(monkeypatch, error)
    assert "model.revision: 'abc': someone/model has no such commit" in refused(
        "someone/model", revision="abc"
    )
    assert asked[0]["revision"] == "abc"
    folder = str(small_policy(tmp_path / "model", 0))
    assert refused(folder, revision="abc") == (
        f"model.revision: 'abc': is for models of the hub, and {folder} is a path; remove it"
    )


def test_the_tokenizer_has_the_revision_of_the_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(small_policy(tmp_path / "model", 0))
    revisions = []

    def of_folder(load: Any) -> Any:
        def from_pretrained(_: str, revision: str | None, **options: Any) -> Any:
            revisions.append(revision)
            return load(folder, **options)

        return from_pretrained

    for auto in (AutoModelForCausalLM, AutoTokenizer):
        monkeypatch.setattr(auto, "from_pretrained", of_folder(auto.from_pretrained))
    load_policy("someone/model", revision="abc")
    assert revisions == ["abc", "abc"]


def test_a_run_uses_its_revision_for_its_own_path_only() -> None:
    settings = ModelSettings(path="someone/model", revision="abc")
    assert settings.revision_of("someone/model") == "abc"
    assert settings.revision_of("runs/x/sft/model") == ""
    with pytest.raises(ValueError, match=r"set model\.path, or remove model\.revision"):
        ModelSettings(revision="abc")


def test_an_adapter_records_the_revision_of_its_base(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = str(small_policy(tmp_path / "model", 0))
    asked = []

    def load(source: str, *, revision: str = "", shared: bool = False) -> Any:
        asked.append((source, revision))
        return load_policy(folder)

    monkeypatch.setattr(loading, "load_policy", load)
    lora = LoraSettings(rank=2, alpha=2)
    model, tokenizer = load_to_train("someone/model", lora, revision="abc")
    save_policy(model, tokenizer, tmp_path / "saved")
    load_to_train(str(tmp_path / "saved"), lora, resume=True)
    assert asked == [("someone/model", "abc")] * 2


def test_a_damaged_adapter_is_named(tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "model", 0)
    model, tokenizer = load_to_train(str(folder), LoraSettings(rank=2, alpha=2))
    save_policy(model, tokenizer, tmp_path / "saved")
    weights = tmp_path / "saved" / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors: cut off"):
        load_to_train(str(tmp_path / "saved"), LoraSettings(rank=2, alpha=2), resume=True)


def test_a_served_folder_names_every_end_token_of_the_generation_config(tmp_path: Path) -> None:
    folder = small_policy(tmp_path / "policy", 0)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 3, 7]}')
    save_for_serving(load_policy(str(folder))[0], tmp_path / "served", "float32")
    assert end_ids_of_folder(tmp_path / "served") == (1, 3, 7)
