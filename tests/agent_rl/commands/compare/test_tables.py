"""A table in Markdown and on the terminal."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent_rl.commands.compare.comparison import compare
from agent_rl.commands.compare.runs import NEEDED, find_runs
from agent_rl.commands.compare.tables import Grid, mechanism_table, reading_table, times_table
from agent_rl.config import ConfigError
from agent_rl.evaluation.reading import ReadingScore
from agent_rl.evaluation.report import read_report
from agent_rl.runs.layout import RunLayout
from tests.builders.comparisons import write_evaluation, write_training


def staleness_rows(*runs: Path) -> list[tuple[str, ...]]:
    """Metric, variant and mean over the run of the rows of staleness."""
    rows = mechanism_table(compare(find_runs(runs))).rows
    return [tuple(row[:3]) for row in rows if row[0].startswith("staleness")]


def test_a_table_in_markdown() -> None:
    grid = Grid(title="t", heads=("a", "b", "c"), rows=[("x|y", "1", "2")], page_only=(1,))
    assert grid.markdown() == "| a | b | c |\n| --- | ---: | ---: |\n| x\\|y | 1 | 2 |"
    assert [column.header for column in grid.table().columns] == ["a", "c"]


def test_staleness_has_rows_if_some_run_looked_ahead(tmp_path: Path) -> None:
    synchronous = write_training(tmp_path / "now", steps=1, learner={"objective": "grpo"})
    assert staleness_rows(synchronous) == []
    ahead = write_training(tmp_path / "ahead", steps=0)
    lines = []
    for step, mean in ((1, 0.0), (2, 0.75), (3, 1.5)):
        staleness = {"learner/staleness_mean": mean, "learner/staleness_max": 2 * mean}
        lines.append(json.dumps({"step": step, **dict.fromkeys(NEEDED, 0.1), **staleness}) + "\n")
    (ahead / "train" / "metrics.jsonl").write_text("".join(lines))
    assert staleness_rows(synchronous, ahead) == [
        ("staleness, mean", "grpo", "0"),
        ("staleness, mean", "gmpo", "0.75"),
        ("staleness, max", "grpo", "0"),
        ("staleness, max", "gmpo", "1.5"),
    ]


def test_a_probe_has_a_row_for_the_variants_that_took_one(tmp_path: Path) -> None:
    """It is taken in some rollout steps only, whose mean counts."""
    without = write_training(tmp_path / "without", learner={"objective": "grpo"})
    probed = write_training(tmp_path / "probed", steps=0)
    lines = []
    for step, cosine in enumerate((None, 0.9995, None, 0.9985), start=1):
        probe = {} if cosine is None else {"learner/probe_cosine": cosine}
        lines.append(json.dumps({"step": step, **dict.fromkeys(NEEDED, 0.1), **probe}) + "\n")
    (probed / "train" / "metrics.jsonl").write_text("".join(lines))
    comparison = compare(find_runs([without, probed]))
    rows = [row for row in mechanism_table(comparison).rows if row[0] == "cosine with the probe"]
    # Whole run, over seeds, first and last quarter, change, over seeds, deviation.
    numbers = ("0.999", "", "0.9995", "0.9985", "-0.001", "", "0.000707")
    assert rows == [("cosine with the probe", "gmpo", *numbers)]
    curve = comparison.variants[1].mechanism_curves["probe_cosine"]
    assert list(curve.steps) == [2, 3, 4]
    assert list(curve.centre) == pytest.approx([0.9995, 0.9995, 0.999])
    assert "probe_cosine" not in comparison.variants[0].mechanism_curves


def test_times_have_a_row_for_each_variant_that_has_them(tmp_path: Path) -> None:
    old = write_training(tmp_path / "old", learner={"objective": "grpo"})
    new = write_training(tmp_path / "new", seconds=60.0, timed=True)
    assert times_table(compare(find_runs([old]))).rows == []
    grid = times_table(compare(find_runs([old, new])))
    # Each is a tenth of the rollout step, and the three steps take a minute each.
    (row,) = grid.rows
    assert row == ("gmpo", *["20.0"] * 11, "0", "20.0")
    assert (grid.heads[1], grid.heads[-1]) == ("policy", "prefix-cache hits")
    shown = [str(column.header) for column in grid.table().columns]
    assert shown == [
        "variant",
        "policy",
        "environment",
        "slowest",
        "learner",
        "engine idle",
        "learner idle",
        "tokens/s",
        "prefix-cache hits",
    ]
    path = new / "train" / "metrics.jsonl"
    path.write_text(path.read_text().replace('"time/sync_share": 0.1', '"time/sync_share": null'))
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:1: time/sync_share: None; it should be"):
        find_runs([new])


def read_by(run: Path, furniture: float, things: float | None) -> None:
    """A final evaluation of a run whose policy reads so."""
    path = write_evaluation(RunLayout(run).final_report)
    report = read_report(path)
    reading = ReadingScore(
        unlisted_furniture=furniture, unseen_things=things, repeated_refusals=None
    )
    split = replace(report.splits["valid_seen"], reading=reading)
    replace(report, splits={"valid_seen": split}).write(path)


def test_reading_is_a_mean_over_the_seeds_that_know(tmp_path: Path) -> None:
    old = write_training(tmp_path / "old", learner={"objective": "grpo"})
    path = write_evaluation(RunLayout(old).final_report)
    # As an earlier version wrote it.
    record = json.loads(path.read_text())
    del record["splits"]["valid_seen"]["reading"]
    path.write_text(json.dumps(record))
    first, second = (write_training(tmp_path / f"s{seed}", seed=seed) for seed in (0, 1))
    read_by(first, 0.25, 0.5)
    read_by(second, 0.35, None)
    grid = reading_table(compare(find_runs([old, first, second])), "valid_seen")
    assert grid.rows == [["gmpo", "30.0", "0: 25.0, 1: 35.0", "50.0", "0: 50.0", "", ""]]
    assert list(grid.heads) == [
        "variant",
        "unlisted furniture %",
        "by seed",
        "unseen things %",
        "by seed",
        "repeated refusals %",
        "by seed",
    ]
    assert reading_table(compare(find_runs([old])), "valid_seen").rows == []
