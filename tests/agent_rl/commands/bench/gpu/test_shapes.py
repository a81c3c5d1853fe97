from pathlib import Path

import pytest

from agent_rl.commands.bench.gpu.shapes import PUBLISHED, model_config_of, shape_of
from agent_rl.config import Config
from agent_rl.config.model import LoraSettings
from tests.builders.tiny_learner import make_tiny_model


def config_of(**model: object) -> Config:
    return Config.model_validate({"run_folder": "r", "model": model})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", 494_032_768),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("Qwen/Qwen2.5-3B-Instruct", 3_085_938_688),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008),
    ],
)
def test_published_models_have_their_published_numbers_of_weights(
    name: str, parameters: int
) -> None:
    assert shape_of(PUBLISHED[name]).parameters == parameters
    assert model_config_of(config_of(path=name)) is PUBLISHED[name]


def test_a_shape_by_hand() -> None:
    # Two heads of 8, one of them for keys; 2 layers, an inner width of 24, and 32 tokens.
    shape = shape_of(make_tiny_model(tied=True).config)
    layer = 2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24
    assert (shape.hidden, shape.heads, shape.queries, shape.keys) == (16, 2, 16, 8)
    assert (shape.layers, shape.inner, shape.vocabulary, shape.context) == (2, 24, 32, 64)
    assert (shape.matrix_weights, shape.head_weights) == (2 * layer, 512)
    # Five norms of 16, two in each layer.
    assert (shape.tied, shape.parameters) == (True, 2 * layer + 512 + 5 * 16)
    assert shape.served_parameters == shape.parameters + 512
    assert shape.trained(None) == shape.parameters
    # A layer's seven matrices have 6 x 16 + 24 inputs, and 2 x 16 + 2 x 8 + 2 x 24 + 16 outputs.
    assert shape.trained(LoraSettings(rank=2)) == 2 * 2 * (120 + 112)
    some = LoraSettings(rank=2, target_modules=("q_proj", "k_proj"))
    assert shape.trained(some) == 2 * 2 * (32 + 24)


def test_an_untied_head_is_counted_and_served_once() -> None:
    shape = shape_of(make_tiny_model(tied=False).config)
    assert not shape.tied
    assert shape.served_parameters == shape.parameters


def test_a_model_from_scratch_has_the_sizes_of_its_config() -> None:
    sizes = {"hidden_size": 64, "heads": 2, "kv_heads": 1, "layers": 3, "vocab_size": 300}
    shape = shape_of(model_config_of(config_of(**sizes, intermediate_size=96)))
    assert (shape.hidden, shape.keys, shape.layers, shape.vocabulary) == (64, 32, 3, 300)


def test_a_folder_is_described_by_its_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such file or folder"):
        model_config_of(config_of(path=str(tmp_path / "none")))


def test_a_mixture_of_experts_is_refused() -> None:
    config = config_of(experts=4, experts_per_token=2)
    with pytest.raises(ValueError, match=r"mixtral has 4 experts \(num_local_experts\)"):
        shape_of(model_config_of(config))
