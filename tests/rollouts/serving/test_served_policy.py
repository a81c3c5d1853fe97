import json
import re
from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.serving.served_policy import model_context_length


@pytest.mark.parametrize(
    "config",
    [{"max_position_embeddings": 512}, {"text_config": {"max_position_embeddings": 512}}],
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
