"""The curves of a report."""

from pathlib import Path

import pytest

from agent_rl.commands.compare.runs import Run, find_runs
from agent_rl.commands.report.curves import Chart, charts, record
from tests.builders.comparisons import write_evaluation, write_training


def runs(folder: Path, *names: str) -> list[Run]:
    """Runs whose metrics are a tenth of the rollout step."""
    return list(find_runs([write_training(folder / name, timed=True) for name in names]).runs)


def titled(made: list[Chart], title: str) -> Chart:
    (chart,) = [chart for chart in made if chart.title == title]
    return chart


def test_the_curves_of_one_run(tmp_path: Path) -> None:
    made = charts(runs(tmp_path, "run"), [{}])
    (line,) = titled(made, "Success in training").lines
    # Running means of 10, 20 and 30 %.
    assert (line.name, line.x) == ("", [1, 2, 3])
    assert line.y == pytest.approx([10.0, 15.0, 20.0])
    ratio = titled(made, "Ratio")
    # These runs have no median.
    assert [line.name for line in ratio.lines] == ["1st percentile", "99th percentile"]
    assert titled(made, "Where the time goes").stacked
    assert "Staleness" not in [chart.title for chart in made]


def test_several_runs_have_a_line_each_and_time_charts_of_their_own(tmp_path: Path) -> None:
    made = charts(runs(tmp_path, "a", "b"), [{}, {}])
    assert [line.name for line in titled(made, "Entropy").lines] == ["a", "b"]
    named = [(line.name, line.run) for line in titled(made, "Clipped tokens").lines]
    assert named == [("a: A < 0", 0), ("a: A > 0", 0), ("b: A < 0", 1), ("b: A > 0", 1)]
    shares = titled(made, "Where the time goes, b")
    assert {line.run for line in shares.lines} == {1}


def test_evaluations_have_intervals(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    write_evaluation(path / "train/evaluations/step-000002.json")
    made = charts(find_runs([path]).runs, [{}])
    (line,) = titled(made, "Held-out success, valid_seen").lines
    assert (line.x, line.y, line.marked) == ([2], [50.0], True)
    # Wilson's interval of one of two.
    assert [*line.low, *line.high] == pytest.approx([9.45, 90.55], 0.01)


def test_success_by_family(tmp_path: Path) -> None:
    families = {1: {"heat": (1, 4), "look": (1, 1)}, 2: {"heat": (3, 4)}}
    one = titled(charts(runs(tmp_path, "a"), [families]), "Success by family")
    assert [(line.name, line.x, line.y) for line in one.lines] == [
        ("heat", [1, 2], [25.0, 50.0]),
        ("look", [1], [100.0]),
    ]
    several = charts(runs(tmp_path, "b", "c"), [families, {}])
    # The other run has no episodes.
    assert [line.name for line in titled(several, "Success, look").lines] == ["b"]


def test_numbers_have_five_digits(tmp_path: Path) -> None:
    made = charts(runs(tmp_path, "run"), [{}])
    values = record(titled(made, "Entropy"))
    assert values["lines"][0]["y"] == [0.1, 0.2, 0.3]
    assert values["title"] == "Entropy"
