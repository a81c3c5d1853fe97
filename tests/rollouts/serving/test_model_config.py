import json
import re
from pathlib import Path
from typing import Any

import pytest

from rollouts import ServingSettings
from rollouts.serving.model_config import (
    model_context_length,
    require_kv_cache,
    require_servable,
)
from rollouts.serving.served_adapter import CONFIG, FOLDER


@pytest.mark.parametrize(
    "config",
    [
        {"max_position_embeddings": 512},
        {"text_config": {"max_position_embeddings": 512}},
        {"model_type": "gpt2", "n_positions": 512, "n_ctx": 1024},
        {"max_seq_len": 512},
    ],
)
def test_a_context_longer_than_the_models_is_named(
    config: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model_context_length(tmp_path, ServingSettings()) == 512
    assert model_context_length(tmp_path, ServingSettings(context_length=100)) == 100
    with pytest.raises(
        ValueError, match=rf"serving\.context_length: 513 .*512.*{re.escape(str(tmp_path))}"
    ):
        model_context_length(tmp_path, ServingSettings(context_length=513))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere/config\.json"):
        model_context_length(tmp_path / "nowhere", ServingSettings())


def test_a_config_without_positions_needs_a_context_length(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert model_context_length(tmp_path, ServingSettings(context_length=100)) == 100
    with pytest.raises(ValueError, match=r"serving\.context_length: 0 .*config\.json"):
        model_context_length(tmp_path, ServingSettings())


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_config_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: damaged"):
        model_context_length(tmp_path, ServingSettings())


LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "hidden_size": 32,
    "max_position_embeddings": 256,
}
BLOCK = 2 * 32 * 4 * 32
"""Bytes of a block: a key and a value of 32 numbers of 4 bytes, for 32 tokens."""


def check(folder: Path, size: float, dtype: str = "float32", **config: Any) -> None:
    """Check a KV cache of `size` bytes for the model above with other values of its config."""
    (folder / "config.json").write_text(json.dumps(LLAMA | config))
    require_kv_cache(folder, ServingSettings(kv_cache_gib=size / 2**30), dtype)


def test_a_cache_for_one_sequence_and_the_spare_block_is_enough(tmp_path: Path) -> None:
    check(tmp_path, 9 * BLOCK)
    with pytest.raises(ValueError, match="kv_cache_gib"):
        check(tmp_path, 9 * BLOCK - 1)
    check(tmp_path, 9 * BLOCK / 2, "bfloat16")
    # A part of a block takes a whole one.
    check(tmp_path, 2 * BLOCK, max_position_embeddings=5)
    with pytest.raises(ValueError, match="kv_cache_gib"):
        check(tmp_path, 2 * BLOCK, max_position_embeddings=33)


def test_the_message_has_numbers_that_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kv_cache_gib") as error:
        check(tmp_path, 6e-5 * 2**30)
    message = str(error.value)
    assert message.startswith("serving.kv_cache_gib: 6e-05 is 62.9 KiB, but one sequence of 256 ")
    assert "needs 64 KiB of KV cache, 256 bytes for each token" in message
    assert message.endswith("at least 6.9e-05, or serving.context_length to at most 192")
    check(tmp_path, 6.9e-5 * 2**30)
    check(tmp_path, 6e-5 * 2**30, max_position_embeddings=192)
    with pytest.raises(ValueError, match=r"at least 6\.9e-05$"):
        check(tmp_path, 1e-5 * 2**30)


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        ({"num_hidden_layers": 3}, 3),
        ({"num_attention_heads": 4, "num_key_value_heads": 2}, 0.5),
        ({"head_dim": 64}, 2),
        ({"num_attention_heads": 2, "num_key_value_heads": None}, 1),
        ({"model_type": "qwen2", "sliding_window": 8, "use_sliding_window": False}, 1),
        ({"model_type": "gpt2", "n_layer": 1, "n_head": 1, "n_embd": 32}, 1),
    ],
)
def test_the_need_follows_the_architecture(
    config: dict[str, Any], blocks: float, tmp_path: Path
) -> None:
    check(tmp_path, 9 * BLOCK * blocks, **config)
    with pytest.raises(ValueError, match="kv_cache_gib"):
        check(tmp_path, 9 * BLOCK * blocks - 1, **config)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "deepseek_v3"},
        {"model_type": "mistral", "sliding_window": 64},
        {"layer_types": ["sliding_attention"]},
        {"hidden_size": None},
    ],
)
def test_a_need_that_is_not_known_is_left_to_vllm(config: dict[str, Any], tmp_path: Path) -> None:
    check(tmp_path, 1.0, **config)


SMOLLM = {**LLAMA, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
"""As SmolLM2-135M."""


@pytest.mark.parametrize(
    ("config", "processes", "may_be"),
    [
        (SMOLLM, 2, "9 attention heads with 3 keys and values and 1536 inner units; .* be 1, 3$"),
        ({**LLAMA, "num_attention_heads": 6, "num_key_value_heads": 2}, 4, "may be 1, 2, 6$"),
        ({"model_type": "gpt2", "n_head": 12, "n_positions": 8}, 5, "may be 1, 2, 3, 4, 6, 12$"),
        ({"text_config": {**SMOLLM}}, 2, "may be 1, 3$"),
    ],
)
def test_processes_that_cannot_share_the_heads_are_told_how_many_can(
    config: dict[str, Any], processes: int, may_be: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    key = rf"serving\.tensor_parallel: {processes} processes cannot .*"
    with pytest.raises(ValueError, match=key + may_be):
        require_servable(tmp_path, ServingSettings(tensor_parallel=processes), gpu=True)
    fitting = may_be.rstrip("$").replace(",", "").split()[-2:]
    for count in (int(word) for word in fitting):
        require_servable(tmp_path, ServingSettings(tensor_parallel=count), gpu=True)


def test_heads_that_are_not_known_are_left_to_vllm(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "strange"}')
    require_servable(tmp_path, ServingSettings(tensor_parallel=7), gpu=True)


def test_each_process_keeps_its_own_heads_keys_only(tmp_path: Path) -> None:
    # 4 heads of 8 numbers: two processes keep half of each token, four a quarter, as do eight.
    config = {**LLAMA, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for processes, blocks in ((1, 1.0), (2, 0.5), (4, 0.25), (8, 0.25)):
        for spare, fits in ((0, True), (-1, False)):
            settings = ServingSettings(
                tensor_parallel=processes, kv_cache_gib=(9 * BLOCK * blocks + spare) / 2**30
            )
            if fits:
                require_kv_cache(tmp_path, settings, "float32")
            else:
                with pytest.raises(ValueError, match="kv_cache_gib"):
                    require_kv_cache(tmp_path, settings, "float32")


def test_an_adapter_beside_experts_needs_a_gpu(tmp_path: Path) -> None:
    settings = ServingSettings(lora="adapter")
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "num_local_experts": 8}))
    require_servable(tmp_path, settings, gpu=False)
    adapter = tmp_path / FOLDER
    adapter.mkdir()
    (adapter / CONFIG).write_text("{}")
    require_servable(tmp_path, settings, gpu=True)
    with pytest.raises(ValueError, match=r"serving\.lora: adapter: .* 8 experts .*lora: merged"):
        require_servable(tmp_path, settings, gpu=False)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    require_servable(tmp_path, settings, gpu=False)


def test_what_a_device_cannot_do_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    sleeping, exact = ServingSettings(sleep=True), ServingSettings(deterministic=True)
    require_servable(tmp_path, sleeping, gpu=True)
    with pytest.raises(ValueError, match=r"serving\.sleep: true needs a GPU.* set it to false"):
        require_servable(tmp_path, sleeping, gpu=False)
    require_servable(tmp_path, exact, gpu=False)
    with pytest.raises(ValueError, match=r"serving\.deterministic: true is for CPU"):
        require_servable(tmp_path, exact, gpu=True)
    with pytest.raises(ValueError, match="kv_cache_gib"):
        require_servable(tmp_path, ServingSettings(kv_cache_gib=1e-6), gpu=False)
