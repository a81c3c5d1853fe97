from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent_rl.config import ConfigError, load_config
from agent_rl.config.model import LoraSettings, ModelSettings


@pytest.mark.parametrize(("heads", "kv_heads"), [(3, 3), (4, 3), (8, 8)])
def test_heads_must_divide(heads: int, kv_heads: int) -> None:
    with pytest.raises(ValidationError, match="heads"):
        ModelSettings(hidden_size=128, heads=heads, kv_heads=kv_heads)


@pytest.mark.parametrize(
    ("experts", "chosen", "message"),
    [
        (0, 3, "experts_per_token 3 chooses from experts, and experts is 0"),
        (1, 2, "experts 1 leaves no choice to the router; set at least 2"),
        (3, 4, "experts_per_token 4 is more than experts 3"),
        (4, 1, "experts_per_token 1 gives the only expert the weight 1"),
    ],
)
def test_experts_that_cannot_be_chosen(experts: int, chosen: int, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelSettings(experts=experts, experts_per_token=chosen)


def test_a_config_may_have_experts(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"run_folder: {tmp_path}\n")
    assert load_config(path).model.experts == 0
    assert load_config(path, ["model.experts=2"]).model.experts_per_token == 2
    with pytest.raises(ConfigError, match=r"experts 1 leaves no choice to the router"):
        load_config(path, ["model.experts=1"])


@pytest.mark.parametrize("targets", ["q_proj", [], [""], 3, [1]])
def test_target_modules_are_names_or_all(targets: Any) -> None:
    with pytest.raises(ValidationError, match=r"write all-linear, or a list of layers' names"):
        LoraSettings(target_modules=targets)


def test_a_config_may_have_an_adapter(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"run_folder: {tmp_path}\n")
    assert load_config(path).model.lora is None
    assert load_config(path, ["model.lora={}"]).model.lora == LoraSettings()
    chosen = load_config(
        path, ["model.lora.rank=8", "model.lora.target_modules=[q_proj]"]
    ).model.lora
    assert chosen == LoraSettings(rank=8, target_modules=("q_proj",))
    with pytest.raises(ConfigError, match=r"model\.lora\.rnak: unknown key; did you mean 'rank'"):
        load_config(path, ["model.lora.rnak=8"])
    with pytest.raises(
        ConfigError, match=r"model\.lora\.target_modules: 'q_proj': write all-linear"
    ):
        load_config(path, ["model.lora.target_modules=q_proj"])
