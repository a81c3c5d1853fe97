"""The policy that a stage starts from, as the run's folder fills."""

from pathlib import Path

import pytest

from agent_rl.commands.stages.start import (
    checkpoint_to_resume,
    locked_run,
    policy_before_training,
    set_unfinished_aside,
    starting_policy,
)
from agent_rl.config import Config, ConfigError
from agent_rl.runs.layout import RunLayout
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


def test_an_unfinished_warm_start_is_no_policy_and_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "init").mkdir()
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "metrics.jsonl").touch()
    for model in ("", "Qwen/Qwen2.5-0.5B"):
        with pytest.raises(ConfigError, match=f"^{tmp_path}/sft: the warm start is unfinished"):
            starting_policy(config(tmp_path, model))
    assert policy_before_training(config(tmp_path)) == f"{tmp_path}/init"


def test_train_starts_where_nothing_can_be_resumed_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = RunLayout(tmp_path).train
    assert checkpoint_to_resume(stage, resume=True) is None
    assert "nothing to resume, so the run starts" in capsys.readouterr().out
    assert checkpoint_to_resume(stage, resume=False) is None
    assert capsys.readouterr().out == ""
    set_unfinished_aside(stage)
    assert capsys.readouterr().out == ""
    stage.folder.mkdir(parents=True)
    stage.metrics_file.write_text('{"step": 1}\n')
    set_unfinished_aside(stage)
    assert "was stopped before its first checkpoint; it is kept as" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["train.interrupted-1"]


def test_train_resumes_from_the_newest_whole_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = RunLayout(tmp_path).train
    whole, torn = write_checkpoint(tmp_path, 10), write_checkpoint(tmp_path, 20)
    assert checkpoint_to_resume(stage, resume=True) == torn
    assert capsys.readouterr().out == ""
    (torn / "state.json").unlink()
    assert checkpoint_to_resume(stage, resume=True) == whole
    assert capsys.readouterr().out == f"{torn}: state.json missing, so it is passed over\n"
    with pytest.raises(ConfigError, match="holds a run already, with step-000010; resume it"):
        checkpoint_to_resume(stage, resume=False)
    (whole / "random.pt").unlink()
    for resume in (True, False):
        with pytest.raises(ConfigError, match=f"^{torn}: state.json missing, and no other"):
            checkpoint_to_resume(stage, resume=resume)


def test_a_run_folder_is_for_one_command_at_a_time(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "run")
    busy = pytest.raises(ConfigError, match=f"^{run.folder}: in use")
    with locked_run(run), busy, locked_run(run):
        pass
    with locked_run(run):
        pass
    assert run.lock_file.is_file()


def test_a_command_that_fails_at_once_leaves_no_folder(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "run")

    def fail_after(write: bool) -> None:
        with locked_run(run):
            if write:
                (run.folder / "config.yaml").touch()
            raise ConfigError("no policy")

    with pytest.raises(ConfigError, match="no policy"):
        fail_after(write=False)
    assert not run.folder.exists()
    with pytest.raises(ConfigError, match="no policy"):
        fail_after(write=True)
    assert {path.name for path in run.folder.iterdir()} == {".lock", "config.yaml"}
