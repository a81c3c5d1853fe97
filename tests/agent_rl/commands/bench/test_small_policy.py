from pathlib import Path

import pytest

from agent_rl.commands.bench.small_policy import make_small_policy, small_config
from agent_rl.config import ConfigError


def test_it_is_made_in_the_world_that_the_settings_name(tmp_path: Path) -> None:
    settings = ["env.id=guess-the-number", "model.hidden_size=64", "model.heads=2"]
    config = small_config(tmp_path, [*settings, "model.kv_heads=2", "model.corpus_tasks=2"])
    assert make_small_policy(config) == str(tmp_path / "init")
    assert (tmp_path / "init" / "model.safetensors").is_file()
    # A later setting counts more than the sizes that are given.
    assert (config.model.hidden_size, config.model.layers) == (64, 4)


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"workers.count: .*greater than or equal to 1"):
        small_config(tmp_path, ["env.id=guess-the-number", "workers.count=0"])
