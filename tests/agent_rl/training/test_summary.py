"""A run at a glance, before it begins, while it runs, and after."""

import math
import re
from pathlib import Path

import pytest

from agent_rl.config import Config
from agent_rl.runs.layout import RunLayout
from agent_rl.training.summary import curve, summary_of
from tests.builders.runs import report, write_run


def points_in(svg: str) -> list[tuple[float, ...]]:
    (points,) = re.findall(r'points="([^"]*)"', svg)
    return [tuple(map(float, point.split(","))) for point in points.split()]


def test_a_curve_goes_from_edge_to_edge() -> None:
    assert points_in(curve([0.0, 1.0, 0.5])) == [(3, 29), (80, 3), (157, 16)]


def test_equal_values_are_a_line_in_the_middle_and_one_is_a_point() -> None:
    assert points_in(curve([2.0, 2.0])) == [(3, 16), (157, 16)]
    assert points_in(curve([2.0])) == [(3, 16)]


def test_values_that_are_not_finite_are_left_out() -> None:
    assert points_in(curve([0.0, math.nan, 1.0])) == [(3, 29), (157, 3)]
    assert curve([math.inf]) == ""


def test_a_run_has_its_curves_and_all_its_evaluations(tmp_path: Path) -> None:
    write_run(tmp_path, steps=2, train={"rollout_steps": 5})
    run = RunLayout(tmp_path)
    for path in (run.train.report(2), run.evaluations / "sft-valid.json"):
        path.parent.mkdir(exist_ok=True)
        report().write(path)
    (run.evaluations / "torn.json").write_text("{")
    config = Config.model_validate({"run_folder": str(tmp_path), "train": {"rollout_steps": 5}})
    summary = summary_of(config)
    assert list(summary.metrics) == [1, 2]
    assert list(summary.evaluations) == ["step-000002", "sft-valid"]
    html = summary._repr_html_()
    assert f"{tmp_path}: 2 of 5 rollout steps" in html
    assert html.count("<svg") == 1
    assert re.findall(r">(10.0%|20.0%)<", html) == ["10.0%", "20.0%"]
    assert html.count(">9.5-90.5<") == 2
    assert "color:" not in html


@pytest.mark.parametrize("made", [False, True])
def test_a_run_that_has_not_begun_has_an_empty_summary(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "r"
    if made:
        folder.mkdir()
    html = summary_of(Config(run_folder=str(folder)))._repr_html_()
    assert "0 of 30 rollout steps" in html
    assert "Evaluations" not in html
