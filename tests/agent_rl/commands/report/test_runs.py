"""What a report says of a run that has finished, goes on, stopped or failed."""

import json
from contextlib import suppress
from pathlib import Path

import pytest

from agent_rl.commands.report.runs import how_it_stands, read_runs
from agent_rl.config import ConfigError
from agent_rl.files import locked
from agent_rl.runs.ending import recorded_end
from agent_rl.runs.layout import RunLayout
from tests.builders.comparisons import write_training
from tests.builders.runs import write_checkpoint


def test_a_finished_run(tmp_path: Path) -> None:
    (run,) = read_runs([write_training(tmp_path / "run")]).runs
    assert (run.ending.state, run.ending.said) == ("finished", "all 3 rollout steps are done")


def test_a_run_whose_folder_is_locked_goes_on(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=1)
    with locked(RunLayout(path).lock_file, "busy"):
        assert how_it_stands(path, 1, 3).state == "running"
    assert how_it_stands(path, 1, 3).state == "stopped"


def test_a_run_that_was_killed_says_from_where_it_goes_on(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=2)
    write_checkpoint(path, 2)
    (run,) = read_runs([path]).runs
    assert run.ending.state == "stopped"
    assert run.ending.said.startswith("2 of 3 rollout steps; last written ")
    assert "; nothing tells how it ended, as when the system kills it; " in run.ending.said
    assert run.ending.said.endswith("the checkpoint of step 2 is whole, --resume goes on")


def test_a_run_that_failed_or_was_interrupted_says_why(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=2)
    end_with(path, ConfigError("env e: no task can be played"))
    ending = how_it_stands(path, 2, 3)
    assert ending.state == "failed"
    assert ending.said.startswith("2 of 3 rollout steps; last written ")
    assert ending.said.endswith(": env e: no task can be played")
    # The last evaluation may fail after all steps.
    ending = how_it_stands(path, 3, 3)
    assert (ending.state, ending.said[:31]) == ("finished", "all 3 rollout steps are done; a")
    assert ending.said.endswith(": failed (env e: no task can be played)")
    end_with(path, KeyboardInterrupt(), "SIGTERM")
    ending = how_it_stands(path, 2, 3)
    assert ending.state == "interrupted"
    assert ending.said.endswith("; stopped by SIGTERM")
    assert how_it_stands(path, 3, 3).state == "finished"


def end_with(path: Path, error: BaseException, signal: str = "") -> None:
    """Let the training of a run end with an error."""
    with suppress(type(error)), recorded_end(RunLayout(path), lambda: signal):
        raise error


def test_a_loss_that_was_not_finite(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=2)
    batches = RunLayout(path).train.not_finite
    batches.mkdir()
    (batches / "batch.pt").touch()
    ending = how_it_stands(path, 2, 3)
    assert ending.state == "failed"
    assert ending.said.endswith(f": a loss was not finite; the batch is in {batches}")
    # The run went on after it, and was stopped.
    end_with(path, KeyboardInterrupt())
    assert how_it_stands(path, 2, 3).state == "interrupted"


def test_the_last_error_of_a_sweeps_run(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=2)
    lines = [json.dumps({"error": "killed"}), json.dumps({"error": "no memory"}), '{"torn']
    RunLayout(path).attempts_file.write_text("\n".join(lines))
    assert how_it_stands(path, 2, 3).said.endswith("no memory")


def test_a_run_without_a_step_is_shown_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "run/sft").mkdir(parents=True)
    reported = read_runs([tmp_path / "run"])
    (run,) = reported.runs
    assert (run.run, run.config, run.ending.state) == (None, None, "stopped")
    assert "no run" in reported.found.notes[0]


def test_two_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [write_training(tmp_path / sweep / "run", seed=i) for i, sweep in enumerate("ab")]
    assert [run.name for run in read_runs(paths).runs] == ["a/run", "b/run"]


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        read_runs([tmp_path])
