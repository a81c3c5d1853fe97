"""What a tracker is told of a stage, in which order, and once only."""

from pathlib import Path

import pytest

from agent_rl.config import load_run_config
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.follower import Follower, Told
from tests.builders.tracked_runs import (
    KeepingTracker,
    evaluate_step,
    log_step,
    play_step,
    tracked_stage,
)


def follower_of(stage: StageLayout) -> Follower:
    """A follower as a process makes it, which goes on where an earlier one ended."""
    settings = load_run_config(stage.config_file).tracking
    return Follower(stage, "wandb", settings, Told.read(stage, "wandb"))


def test_each_step_is_told_once_with_the_names_of_the_file(tmp_path: Path) -> None:
    stage, tracker = tracked_stage(tmp_path, steps=2), KeepingTracker()
    follower = follower_of(stage)
    follower.tell_new(tracker)
    follower.tell_new(tracker)
    assert tracker.told == [("metrics", 1), ("metrics", 2)]
    assert tracker.metrics == [{"rollout/success": 0.1}, {"rollout/success": 0.2}]
    log_step(stage, 3)
    follower.tell_new(tracker)
    assert tracker.told[2:] == [("metrics", 3)]


def test_a_line_that_is_being_written_is_told_when_it_is_whole(tmp_path: Path) -> None:
    stage, tracker = tracked_stage(tmp_path, steps=1), KeepingTracker()
    follower = follower_of(stage)
    with stage.metrics_file.open("a") as file:
        file.write('{"step": 2, "a"')
        file.flush()
        follower.tell_new(tracker)
        assert tracker.told == [("metrics", 1)]
        file.write(": 0.5}\n")
    follower.tell_new(tracker)
    assert tracker.metrics[1] == {"a": 0.5}


def test_an_evaluation_comes_between_its_step_and_the_next(tmp_path: Path) -> None:
    stage, tracker = tracked_stage(tmp_path, steps=4), KeepingTracker()
    for step in (2, 4):
        evaluate_step(stage, step)
    follower_of(stage).tell_new(tracker)
    assert tracker.told == [
        ("metrics", 1),
        ("metrics", 2),
        ("metrics", 2),
        ("evaluation", 2),
        ("metrics", 3),
        ("metrics", 4),
        ("metrics", 4),
        ("evaluation", 4),
    ]
    assert tracker.metrics[2]["evaluation/valid_seen/success"] == 0.5


def test_some_episodes_are_told_of_the_first_step_and_every_so_many(tmp_path: Path) -> None:
    stage = tracked_stage(tmp_path, steps=5, episodes=2, episodes_every=2)
    for step in range(1, 6):
        play_step(stage, step)
    tracker = KeepingTracker()
    follower_of(stage).tell_new(tracker)
    tables = [told for told in tracker.told if told[0] == "episodes"]
    # The files came after the metrics, whose steps never go back.
    assert tables == [("episodes", 5)] * 3
    assert [table.rows[0][0] for table in tracker.tables] == [1, 2, 4]
    assert [row[1] for row in tracker.tables[0].rows] == ["t1", "t2"]


def test_no_episodes_are_told_if_none_are_asked_for(tmp_path: Path) -> None:
    stage, tracker = tracked_stage(tmp_path, steps=1, episodes=0), KeepingTracker()
    play_step(stage, 1)
    follower_of(stage).tell_new(tracker)
    assert tracker.told == [("metrics", 1)]


def test_a_resumed_run_is_told_from_the_first_new_step_on(tmp_path: Path) -> None:
    """Steps 2 and 3 were cut and are repeated, and then comes step 4."""
    stage, tracker = tracked_stage(tmp_path, steps=3), KeepingTracker()
    evaluate_step(stage, 2)
    follower_of(stage).tell_new(tracker)
    before = len(tracker.told)
    stage.metrics_file.write_text(stage.metrics_file.read_text().splitlines(True)[0])
    resumed = follower_of(stage)
    for step in (2, 3, 4):
        log_step(stage, step)
        resumed.tell_new(tracker)
    assert tracker.told[before:] == [("metrics", 4)]


def test_an_error_is_raised_and_the_same_is_told_again(tmp_path: Path) -> None:
    stage, tracker = tracked_stage(tmp_path, steps=2), KeepingTracker()
    follower = follower_of(stage)
    tracker.error = ConnectionError("refused")
    with pytest.raises(ConnectionError, match="refused"):
        follower.tell_new(tracker)
    assert (follower.steps_to_tell(), Told.read(stage, "wandb").step) == (2, 0)
    follower.tell_new(tracker)
    assert (follower.steps_to_tell(), Told.read(stage, "wandb").step) == (0, 2)
    assert tracker.told == [("metrics", 1), ("metrics", 2)]


def test_a_step_is_marked_before_it_is_told(tmp_path: Path) -> None:
    """So a kill in a call never shows a step twice."""
    stage = tracked_stage(tmp_path, steps=1)

    class Looks(KeepingTracker):
        def log(self, step: int, metrics: object) -> None:
            assert Told.read(stage, "wandb").step == step

    follower_of(stage).tell_new(Looks())


@pytest.mark.parametrize("text", ["", "[]", '{"unknown": 1}'])
def test_a_damaged_state_is_that_of_a_new_run(tmp_path: Path, text: str) -> None:
    stage = tracked_stage(tmp_path)
    stage.trackers.mkdir()
    stage.tracker_state("wandb").write_text(text)
    assert Told.read(stage, "wandb") == Told()
