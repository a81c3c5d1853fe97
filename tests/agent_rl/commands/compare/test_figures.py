"""The pictures: their size, and the curves in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.compare import figures
from agent_rl.commands.compare.comparison import compare
from agent_rl.commands.compare.report import compare_folders
from agent_rl.commands.compare.runs import NEEDED, find_runs
from agent_rl.commands.compare.seeds import curve
from tests.builders.comparisons import write_training


def test_the_pictures_are_pictures(sweep: Path) -> None:
    from matplotlib.image import imread

    compare_folders([sweep])
    for name, panels in {"curves.png": 2, "mechanism.png": 3}.items():
        height, width, _ = imread(sweep / name).shape
        assert width > 400 * panels
        assert height > 400


def test_the_curves_are_those_of_the_variants(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Sequence[Any]] = []
    monkeypatch.setattr(figures, "finish_figure", lambda figure, axes, path: drawn.append(axes))
    figures.draw_curves(compare(find_runs([sweep])), tmp_path / "curves.png")
    ((training, held_out),) = drawn
    lines = {line.get_label(): line.get_xydata().tolist() for line in held_out.get_lines()}
    # All begin with the start, which wins one game of eight; only one of grpo's seeds came to its
    # last step.
    assert lines["gmpo"] == [[0, 12.5], [8, 81.25]]
    assert lines["grpo"] == [[0, 12.5]]
    thin = [
        line.get_xydata().tolist()
        for line in held_out.get_lines()
        if line.get_label().startswith("_")
    ]
    assert thin == [
        [[0, 12.5], [8, 75]],
        [[0, 12.5], [8, 87.5]],
        [[0, 12.5], [8, 12.5]],
        [[0, 12.5], [5, 0]],
    ]
    lines = {line.get_label(): line.get_xydata().tolist() for line in training.get_lines()}
    assert lines["gmpo"][:2] == [[1, pytest.approx(10)], [2, pytest.approx(15)]]
    assert len(lines["gmpo"]) == 8
    assert len(lines["grpo"]) == 5


def test_a_metric_that_only_some_variants_have_gets_a_panel_with_their_colours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    old = write_training(tmp_path / "old", learner={"objective": "grpo"})
    new = write_training(tmp_path / "new", steps=0)
    shares = {"learner/effective_share": 0.5}
    line = json.dumps({"step": 1, **dict.fromkeys(NEEDED, 0.1), **shares})
    (new / "train" / "metrics.jsonl").write_text(line + "\n")
    drawn: list[Sequence[Any]] = []
    monkeypatch.setattr(figures, "finish_figure", lambda figure, axes, path: drawn.append(axes))
    figures.draw_mechanism(compare(find_runs([old])), tmp_path / "mechanism.png")
    figures.draw_mechanism(compare(find_runs([old, new])), tmp_path / "mechanism.png")
    assert [len(axes) for axes in drawn] == [6, 9]
    panels = [panel for panel in drawn[1] if panel.get_lines()]
    assert len(panels) == 7
    (panel,) = [panel for panel in panels if panel.get_title().startswith("effective share")]
    (one,) = panel.get_lines()
    assert one.get_xydata().tolist() == [[1, 50]]
    assert one.get_color() == panels[0].get_lines()[1].get_color()


def test_many_variants_have_many_styles() -> None:
    _, (panel,) = figures.new_figure(rows=1, columns=1, width=2.0, height=2.0)
    one = curve({0: {1: 0.5, 2: 0.6}})
    figures.draw_panel(panel, "", {f"v{number}": one for number in range(20)}, scale=1.0)
    styles = {(line.get_color(), line.get_linestyle()) for line in panel.get_lines()}
    assert len(styles) == 20
