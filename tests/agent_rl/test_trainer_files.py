"""Trainer's looks at the files of a run, which start nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl.commands.stages.demo import run_demo
from agent_rl.commands.stages.sft import sft
from agent_rl.commands.stages.train import train
from agent_rl.config import Config, ConfigError
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trackers.packages import PACKAGES
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.trainer import Trainer
from tests.builders.episodes import trajectory, turn
from tests.builders.runs import write_run


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(Config(run_folder=str(tmp_path)))


def test_the_episodes_of_a_step_or_of_the_newest(trainer: Trainer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no episodes yet; train first"):
        trainer.episodes()
    train = RunLayout(tmp_path).train
    for step in (1, 2):
        write_trajectories(train.step_episodes(step), [trajectory(turn(reward=float(step)))])
    assert [episode.episode_return for episode in trainer.episodes()] == [2.0]
    assert [episode.episode_return for episode in trainer.episodes(1)] == [1.0]
    with pytest.raises(ConfigError, match=r"step-000003.jsonl.gz: no such file"):
        trainer.episodes(3)


def test_the_report_is_that_of_the_run(trainer: Trainer, tmp_path: Path) -> None:
    write_run(tmp_path, steps=3)
    assert list(trainer.report().metrics) == [1, 2, 3]


@pytest.mark.parametrize(
    "begin",
    [
        train,
        sft,
        run_demo,
        lambda config: Trainer(config).train(),
        lambda config: Trainer(config).warm_start(),
    ],
    ids=["train", "sft", "demo", "Trainer.train", "Trainer.warm_start"],
)
def test_a_missing_tracker_is_told_before_anything_is_made(
    begin: Callable[[Config], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, "mlflow", "no_package_of_this_name")
    config = Config.model_validate(
        {"run_folder": str(tmp_path / "r"), "tracking": {"trackers": "mlflow"}}
    )
    with pytest.raises(ConfigError, match=r"trackers: mlflow: its package is not installed"):
        begin(config)
    assert not (tmp_path / "r").exists()
