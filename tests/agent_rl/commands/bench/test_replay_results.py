"""Medians over orders of the data, the tables and the files of a replay."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.bench.replay_results import (
    MedianOfSeeds,
    ReplayedRun,
    ReplayResults,
    replay_tables,
    show_replay,
)
from agent_rl.commands.compare.mechanism import MECHANISM
from agent_rl.evaluation.scores import GameScore
from tests.builders.comparisons import games

KEYS = [key for metric in MECHANISM for key in metric.terms]
"""With `learner/` before each."""


def played(bits: str) -> tuple[GameScore, ...]:
    """Games of a family each, won or lost."""
    return tuple(games({f"g{number}": bit for number, bit in enumerate(bits)}).values())


def run(arm: str, seed: int, value: float, won: str = "") -> ReplayedRun:
    """A run whose metrics are all `value`."""
    metrics = {key.removeprefix("learner/"): value for key in KEYS}
    metrics |= {"entropy_change": -value, "cosine_at_start": 1.0}
    return ReplayedRun(arm=arm, seed=seed, metrics=metrics, games=played(won) if won else ())


def results(*runs: ReplayedRun, start: str = "") -> ReplayResults:
    return ReplayResults(
        source="policy",
        episodes=8,
        groups=2,
        optimizer_steps=4,
        start=played(start) if start else (),
        runs=runs,
    )


def test_medians_have_the_range_of_their_seeds() -> None:
    found = results(run("a", 0, 0.1), run("a", 1, 0.3), run("a", 2, 0.2), run("b", 0, 0.5))
    assert found.over_orders("a", "log_ratio_rms") == MedianOfSeeds(median=0.2, low=0.1, high=0.3)
    assert found.over_orders("a", "entropy_change") == MedianOfSeeds(
        median=-0.2, low=-0.3, high=-0.1
    )
    # A sum of two metrics.
    assert found.over_orders("b", "clip_fraction") == MedianOfSeeds(median=1.0, low=1.0, high=1.0)
    assert found.success("a") is None


def test_success_is_over_all_orders() -> None:
    found = results(run("a", 0, 0.1, "1100"), run("a", 1, 0.1, "1000"), start="1000")
    success, start = found.success("a"), found.start_success()
    assert success is not None
    assert start is not None
    assert (success.success, success.games, success.episodes, start.success) == (0.375, 4, 8, 0.25)
    assert dict(success.over_seeds.seeds) == {0: 0.5, 1: 0.25}


def test_the_tables_have_a_row_for_each_variant_and_the_start() -> None:
    found = results(run("a", 0, 0.1, "1100"), run("a", 1, 0.3, "1000"), start="1000")
    tables = replay_tables(found)
    assert [list(table.columns[0].cells) for table in tables] == [*[["a"]] * 4, ["a", "start"]]
    assert list(tables[0].columns[1].cells) == ["0.2\n0.1 to 0.3"]
    assert list(tables[3].columns[3].cells) == ["1"]
    cells = [[str(cell) for cell in column.cells] for column in tables[4].columns]
    assert cells[2] == ["-0.2\n-0.3 to -0.1", ""]
    assert cells[-1][0].startswith("37.5\n(")
    assert cells[-1][1].startswith("25.0\n(")


def test_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = ReplayedRun(arm="b", seed=0, metrics={}, error="the loss is nan")
    found = results(run("a", 0, 0.1), broken)
    show_replay(found, png_file=tmp_path / "r.png", json_file=tmp_path / "r.json")
    assert "note: b, seed 0, ended early: the loss is nan" in capsys.readouterr().out
    record = json.loads((tmp_path / "r.json").read_text())
    assert record["variants"]["a"]["top_share"] == {"median": 0.1, "low": 0.1, "high": 0.1}
    assert record["variants"]["b"] == {"success": None}
    assert record["runs"][1]["error"] == "the loss is nan"
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
