"""The policy that a stage starts from, as the run's folder fills."""

from pathlib import Path

import pytest

from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import Config, ConfigError
from tests.builders.runs import write_checkpoint


def config(run: Path, model: str = "") -> Config:
    return Config.model_validate({"run_folder": str(run), "model": {"path": model}})


def test_the_most_advanced_policy_counts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^run_folder {tmp_path}: holds no policy yet"):
        starting_policy(config(tmp_path))
    (tmp_path / "init").mkdir()
    assert starting_policy(config(tmp_path)) == f"{tmp_path}/init"
    assert starting_policy(config(tmp_path, model="Qwen/Qwen2.5-0.5B")) == "Qwen/Qwen2.5-0.5B"
    (tmp_path / "sft" / "model").mkdir(parents=True)
    assert starting_policy(config(tmp_path, model="Qwen/Qwen2.5-0.5B")) == f"{tmp_path}/sft/model"
    for step in (9, 10):
        checkpoint = write_checkpoint(tmp_path, step)
        assert starting_policy(config(tmp_path)) == f"{checkpoint}/model"
    assert starting_policy(config(tmp_path), trained=False) == f"{tmp_path}/sft/model"


def test_a_checkpoint_that_lacks_a_file_does_not_count(tmp_path: Path) -> None:
    whole, torn = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    (torn / "state.json").unlink()
    assert starting_policy(config(tmp_path)) == f"{whole}/model"
