"""A warm start that was stopped goes on as if it had not been."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config, ConfigError
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.learner.samples import TrainingSample
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.metrics_file import read_metrics
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.training.warm_start import Lesson, expert_samples, warm_start
from agent_rl.training.warm_start_checkpoint import (
    Position,
    delete_warm_start_checkpoint,
    load_position,
)
from rollouts import Trajectory
from tests.builders.episodes import trajectory, turn
from tests.builders.learner_processes import load_tiny

EPISODES, OWN = 8, 4


class Stopped(Exception):
    """A person has stopped the warm start."""


def config(**sft: Any) -> Config:
    """Four epochs: 8 episodes in 4 steps twice, and two rounds of 4 episodes in 2 steps."""
    settings = {
        "observation_epochs": 1,
        "epochs": 1,
        "own_rounds": 2,
        "own_episodes": OWN,
        "own_replay": False,
        "batch_episodes": 2,
        "checkpoint_every": 3,
    }
    return Config.model_validate({"run_folder": "r", "sft": settings | sft})


def episodes(count: int, seed: int) -> list[Trajectory]:
    rng = random.Random(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(rng.randrange(4, 260) for _ in range(length))

    return [trajectory(turn(ids(3), ids(2)), turn(ids(2), ids(3))) for _ in range(count)]


def lesson(episode: Trajectory) -> Lesson:
    def samples() -> list[TrainingSample]:
        return expert_samples(episode, observations=False)

    return samples


def losses(
    learner: LearnerProcesses, folder: Path, *, stop_in: int = 0, begun: Position | None = None
) -> dict[int, float]:
    """The loss of each optimizer step in the folder, after a warm start in it.

    Args:
        stop_in: the round in which the warm start is stopped; 0 is none.
        begun: where a warm start goes on.
    """

    def play_own(number: int) -> Sequence[Lesson]:
        if number == stop_in:
            raise Stopped
        return [lesson(episode) for episode in episodes(OWN, seed=number)]

    resume_from = begun.taken if begun else None
    with RunFolder(folder, config(), resume_from=resume_from) as run:
        try:
            of_expert = episodes(EPISODES, seed=0)
            warm_start(config(), learner, load_tiny, of_expert, run, play_own, begun=begun)
        except Stopped:
            assert stop_in
    steps = read_metrics(StageLayout(folder).metrics_file)
    return {step: metrics["sft/loss"] for step, metrics in steps.items()}


@pytest.mark.process
def test_what_was_stopped_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """Stopped in round 2, after 10 steps: the checkpoint is that of step 9, in round 1."""
    stage = StageLayout(tmp_path / "stopped")
    settings = config().learner.model_copy(update={"threads": 1, "device": "cpu"})
    with LearnerProcesses(settings) as learner:
        unbroken = losses(learner, tmp_path / "unbroken")
        assert [*unbroken] == [*range(1, 13)]
        assert [*losses(learner, stage.folder, stop_in=2)] == [*range(1, 11)]
        write_trajectories(stage.expert_episodes, episodes(EPISODES, seed=0))
        begun = load_position(stage, config())
        assert begun == Position(epochs=2, steps=1, taken=9)
        assert losses(learner, stage.folder, begun=begun) == unbroken


def test_a_checkpoint_of_other_settings_or_without_episodes_is_refused(tmp_path: Path) -> None:
    stage = StageLayout(tmp_path)
    assert load_position(stage, config()) is None
    RunFolder(tmp_path, config()).close()
    stage.warm_start_checkpoint.mkdir()
    with pytest.raises(ConfigError, match=r"state\.json: missing or damaged"):
        load_position(stage, config())
    (stage.warm_start_checkpoint / "state.json").write_text('{"epochs": 1, "steps": 2, "taken": 6}')
    with pytest.raises(ConfigError, match=r"expert\.jsonl\.gz: missing; put it back, or delete"):
        load_position(stage, config())
    write_trajectories(stage.expert_episodes, episodes(1, seed=0))
    position = Position(epochs=1, steps=2, taken=6)
    assert load_position(stage, config(checkpoint_every=7)) == position
    # A save that was killed between its two renames.
    stage.warm_start_checkpoint.rename(tmp_path / "checkpoint.unfinished-replaced")
    assert load_position(stage, config()) == position
    with pytest.raises(ConfigError, match=r"sft\.own_rounds: the warm start was begun with 2"):
        load_position(stage, config(own_rounds=3))


def test_what_killed_saves_left_is_deleted_with_the_checkpoint(tmp_path: Path) -> None:
    stage = StageLayout(tmp_path)
    for name in ("checkpoint", "checkpoint.unfinished-4711", "checkpoint.unfinished-replaced"):
        (tmp_path / name / "learner").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    delete_warm_start_checkpoint(stage)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    delete_warm_start_checkpoint(stage)  # there is nothing any more
