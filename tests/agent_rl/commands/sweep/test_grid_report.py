"""The tables, the picture and the files of a grid."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agent_rl.cli import app
from agent_rl.commands.compare.mechanism import MECHANISM
from agent_rl.commands.sweep.grid_report import SHOWN_METRICS, show_grid
from tests.agent_rl.commands.sweep.test_grid_results import WINS, grid_of
from tests.builders.comparisons import rows_of


def test_the_map_has_tables_a_picture_and_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from matplotlib.image import imread

    sweep = grid_of(tmp_path, WINS)
    show_grid(sweep, pairs=["gmpo,grpo"], to=tmp_path / "map")
    printed = " ".join(capsys.readouterr().out.split())
    assert "the start has 50.0 (29.9-70.1)" in printed
    assert "note: 7 runs have not ended: gmpo-old-r4-s0, " in printed
    page = (tmp_path / "map/grid.md").read_text()
    title = "Success on valid_seen over rate, %; the start has 50.0 (29.9-70.1)"
    assert rows_of(page, title) == [
        ["young", "gmpo", "60.0", "55.0", "52.5"],
        ["young", "grpo", "60.0", "60.0", "20.0 (2 of 2 collapsed)"],
        ["old", "gmpo", "50.0", "25.0", ""],
        *[["old", "grpo", *["20.0 (1 of 1 collapsed)"] * 3]],
    ]
    assert rows_of(page, "By variant, over rate") == [
        ["young", "gmpo", "r1", "r4, r1", "55.6", "50.0 to 61.2", "0 of 6"],
        ["young", "grpo", "r2", "r2, r2", "50.0", "50.0 to 50.0", "2 of 6"],
        ["old", "gmpo", "r1", "", "", "", "0 of 2"],
        ["old", "grpo", "none", "", "20.0", "", "3 of 3"],
    ]
    pairs = rows_of(page, "Paired by seed; < marks the cell to confirm, by the rule")
    assert [row[:4] for row in pairs[2:4]] == [
        ["gmpo - grpo", "young r4", "2", "+32.5  <"],
        ["gmpo - grpo", "old r1", "1", "+30.0"],
    ]
    height, width, _ = imread(tmp_path / "map/grid.png").shape
    assert width > 2 * 400 > height
    numbers = json.loads((tmp_path / "map/grid.json").read_text())
    assert numbers["curves"][0]["area"]["seeds"] == {"0": pytest.approx(0.6125), "1": 0.5}


def test_each_metric_of_a_cell_has_a_head() -> None:
    heads = {metric.name: metric.row for metric in MECHANISM if metric.name in SHOWN_METRICS}
    assert set(heads) == set(SHOWN_METRICS)
    assert all(heads.values())


def test_another_axis_and_the_command(tmp_path: Path) -> None:
    grid_of(tmp_path, WINS)
    config = str(tmp_path / "c.yaml")
    ended = CliRunner().invoke(app, ["sweep", config, "--map", "--over", "age"])
    assert ended.exit_code == 0, ended.output
    page = (tmp_path / "sweep/grid.md").read_text()
    assert "## Success on valid_seen over age, %" in page
    assert rows_of(page, "By variant, over age")[0][:4] == ["r1", "gmpo", "old", ""]
    refused = CliRunner().invoke(app, ["sweep", config, "--over", "age"])
    assert refused.exit_code != 0
    refused = CliRunner().invoke(app, ["sweep", config, "--map", "--pair", "gmpo"])
    assert refused.exit_code != 0
