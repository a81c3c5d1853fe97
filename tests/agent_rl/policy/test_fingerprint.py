"""A policy is identified by its files, wherever they are."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from agent_rl.config.model import ModelSettings
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.saving import save_policy

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy") / "model"
    tokenizer = train_tokenizer(["You see a drawer 1."], 300)
    settings = ModelSettings(hidden_size=32, layers=1, heads=1, kv_heads=1, intermediate_size=32)
    save_policy(init_model(settings, tokenizer), tokenizer, folder)
    return folder


def test_a_copy_is_the_same_policy(policy: Path, tmp_path: Path) -> None:
    shutil.copytree(policy, tmp_path / "copy")
    shutil.copytree(policy, tmp_path / "copy" / "adapter")
    (tmp_path / "copy" / "README.md").write_text("a card")
    assert fingerprint(str(tmp_path / "copy")) == fingerprint(str(policy))
    assert len(fingerprint(str(policy)).weights) == 12


def test_one_changed_number_changes_the_fingerprint(policy: Path, tmp_path: Path) -> None:
    shutil.copytree(policy, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    weights["model.norm.weight"][3] += 1e-3
    save_file(weights, tmp_path / "other" / "model.safetensors", metadata={"format": "pt"})
    one, other = fingerprint(str(policy)), fingerprint(str(tmp_path / "other"))
    assert one.weights != other.weights
    assert one.policy != other.policy


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "config.json"])
def test_another_tokenizer_or_template_makes_another_policy_of_the_same_weights(
    name: str, policy: Path, tmp_path: Path
) -> None:
    shutil.copytree(policy, tmp_path / "other")
    with (tmp_path / "other" / name).open("a") as file:
        file.write(" ")
    one, other = fingerprint(str(policy)), fingerprint(str(tmp_path / "other"))
    assert one.weights == other.weights
    assert one.policy != other.policy


def test_shards_count_all(policy: Path, tmp_path: Path) -> None:
    shutil.copytree(policy, tmp_path / "sharded")
    (tmp_path / "sharded" / "model.safetensors").unlink()
    shards = {str(number): f"model-{number}-of-2.safetensors" for number in (1, 2)}
    index = tmp_path / "sharded" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    for number in (1, 2):
        save_file(
            {"w": torch.tensor([float(number)])},
            tmp_path / "sharded" / f"model-{number}-of-2.safetensors",
        )
    before = fingerprint(str(tmp_path / "sharded")).weights
    save_file({"w": torch.tensor([3.0])}, tmp_path / "sharded" / "model-2-of-2.safetensors")
    assert fingerprint(str(tmp_path / "sharded")).weights != before
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    # The first digits of `printf GGUF | sha256sum`.
    assert fingerprint(str(tmp_path / "one.gguf")).weights == "b83633aa7853"


def test_a_model_of_the_hub_is_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network, the cache of an earlier download is enough."""
    refs = tmp_path / "models--some--policy" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    (tmp_path / "models--some--policy" / "snapshots" / COMMIT).mkdir(parents=True)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (refs / "v1").write_text(COMMIT[::-1])
    (tmp_path / "models--some--policy" / "snapshots" / COMMIT[::-1]).mkdir()
    assert fingerprint("some/policy", revision="v1").policy == f"some/policy at {COMMIT[::-1]}"
    found = fingerprint("some/policy")
    assert (found.weights, found.policy) == (f"commit {COMMIT[:12]}", f"some/policy at {COMMIT}")


def test_a_source_without_a_policy_is_named(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model .*/nowhere: no such file or folder"):
        fingerprint(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"has no config.json"):
        fingerprint(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no weights"):
        fingerprint(str(tmp_path))
