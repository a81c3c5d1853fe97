"""The tables of a report."""

from pathlib import Path

from agent_rl.commands.report.runs import read_runs
from agent_rl.commands.report.tables import config_table, evaluation_tables
from agent_rl.files import write_json
from agent_rl.runs.layout import RunLayout
from tests.builders.comparisons import write_evaluation, write_training
from tests.builders.runs import report


def test_one_run_shows_what_is_not_the_default(tmp_path: Path) -> None:
    runs = read_runs([write_training(tmp_path / "run", seed=7)]).runs
    grid = config_table(runs)
    assert grid.heads == ("setting", "default", "run")
    assert ("seed", "0", "7") in grid.rows
    assert not [row for row in grid.rows if row[0] == "run_folder"]


def test_several_runs_show_where_they_differ(tmp_path: Path) -> None:
    paths = [write_training(tmp_path / name, seed=seed) for seed, name in enumerate("ab")]
    assert config_table(read_runs(paths).runs).rows == [("seed", "0", "1")]


def test_the_last_evaluation(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    write_evaluation(path / "train/evaluations/step-000003.json")
    (run,) = read_runs([path]).runs
    (grid,) = evaluation_tables(run, [])
    assert "run, after rollout step 3 (step-000003.json): valid_seen" in grid.title
    assert [row[:4] for row in grid.rows] == [
        ("a", "1", "100.0", "20.7-100.0"),
        ("b", "1", "0.0", "0.0-79.3"),
        ("all", "2", "50.0", "9.5-90.5"),
    ]


def test_the_stages_of_a_demo(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    stages = {stage: report().record() for stage in ("init", "sft", "train")}
    write_json(RunLayout(path).demo_summary, {"stages": stages})
    (run,) = read_runs([path]).runs
    titles = [grid.title for grid in evaluation_tables(run, [])]
    assert [title.split(":")[0] for title in titles] == ["run, init", "run, sft", "run, train"]


def test_a_damaged_summary_is_a_note(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    RunLayout(path).demo_summary.write_text("{}")
    (run,) = read_runs([path]).runs
    notes: list[str] = []
    assert list(evaluation_tables(run, notes)) == []
    assert "has no stages" in notes[0]
