"""What an engine is told of the adapter in a served folder."""

import json
from pathlib import Path

import pytest

from rollouts.serving.served_adapter import adapter_in, engine_arguments, room_for


def adapter(folder: Path, **config: object) -> Path:
    (folder / "served_adapter").mkdir()
    (folder / "served_adapter" / "adapter_config.json").write_text(json.dumps(config))
    found = adapter_in(folder)
    assert found is not None
    return found


def test_a_folder_of_whole_weights_has_no_adapter(tmp_path: Path) -> None:
    # That of a checkpoint is merged into the weights beside it.
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert adapter_in(tmp_path) is None


def test_the_engine_has_room_for_the_adapters_rank_on_its_layers(tmp_path: Path) -> None:
    targets = ["model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "q_proj"]
    assert engine_arguments(adapter(tmp_path, r=20, target_modules=targets)) == {
        "enable_lora": True,
        "max_loras": 1,
        "max_lora_rank": 32,
        "lora_target_modules": ["q_proj", "up_proj"],
    }


def test_a_pattern_may_mean_any_layer(tmp_path: Path) -> None:
    arguments = engine_arguments(adapter(tmp_path, r=8, target_modules=".*proj"))
    assert arguments["lora_target_modules"] is None


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (2, 8), (8, 8), (257, 320), (512, 512)])
def test_ranks_that_vllm_has_room_for(rank: int, room: int) -> None:
    assert room_for(rank) == room


def test_a_rank_that_vllm_has_no_room_for() -> None:
    with pytest.raises(ValueError, match=r"model\.lora\.rank: 513 is more than 512.*lora: merged"):
        room_for(513)
