"""docs/results.md and docs/results/comparison.md say what the files in docs/results say."""

import math
import statistics

import pytest
from scipy import stats

from agent_rl.commands.compare.comparison import OVERALL, Comparison, compare, scores
from agent_rl.commands.compare.evaluations import Evaluation
from agent_rl.commands.compare.published import published
from agent_rl.commands.compare.runs import find_runs, read_run
from agent_rl.commands.compare.tables import (
    Grid,
    family_table,
    mechanism_table,
    pairs_table,
    seeds_table,
)
from agent_rl.display import percent, points
from agent_rl.evaluation.report import read_report
from agent_rl.evaluation.scores import Score
from tests.builders.paths import ROOT

DOCS = ROOT / "docs"
PAGE = (DOCS / "results.md").read_text()
COMPARISON_PAGE = (DOCS / "results/comparison.md").read_text()
SPLIT = "valid_seen"
LABELS = {name: f"{name}-s[0-9]*" for name in ("gmpo", "gmpo-narrow", "grpo", "grpo-wide")}


@pytest.fixture(scope="module")
def bounds() -> Comparison:
    return compare(find_runs([DOCS / "results/bounds"]), labels=LABELS)


def test_the_tables_of_the_objectives() -> None:
    comparison = compare(find_runs([DOCS / "results/objectives"]))
    rows = published(["gmpo-1.5b", "grpo-1.5b"], comparison.env)
    for grid in (
        family_table(comparison, SPLIT, rows),
        seeds_table(comparison, SPLIT),
        pairs_table(comparison, SPLIT),
    ):
        assert grid.markdown() in PAGE, grid.title
    shown = {
        "ratio, p99 - p01",
        "log-ratio, rms",
        "clipped, A < 0",
        "clipped, A > 0",
        "gradient norm",
        "entropy",
    }
    mechanism = mechanism_table(comparison)
    some = [row for row in mechanism.rows if row[0] in shown]
    assert Grid(title="", heads=mechanism.heads, rows=some, left=2).markdown() in COMPARISON_PAGE


def test_the_tables_of_bounds_and_means(bounds: Comparison) -> None:
    for grid in (
        family_table(bounds, SPLIT, ()),
        seeds_table(bounds, SPLIT),
        pairs_table(bounds, SPLIT),
    ):
        assert grid.markdown() in COMPARISON_PAGE, grid.title


def test_the_effects_of_bounds_and_means(bounds: Comparison) -> None:
    found = {
        one.label: list(one.scores[SPLIT][OVERALL].over_seeds.seeds.values())
        for one in bounds.variants
    }
    assert (
        PAGE.count(
            "| mean: geometric less token | " + effect(found, plus=("gmpo", "gmpo-narrow")) + " |"
        )
        == 1
    )
    assert (
        PAGE.count(
            "| bounds: wide less narrow | " + effect(found, plus=("gmpo", "grpo-wide")) + " |"
        )
        == 1
    )


def effect(successes: dict[str, list[float]], plus: tuple[str, str]) -> str:
    """The mean of two of the four cells less that of the others, and the t interval by the spread
    within cells.

    Every cell has as many seeds.
    """
    means = {name: statistics.fmean(values) for name, values in successes.items()}
    difference = sum(mean if name in plus else -mean for name, mean in means.items()) / 2
    squares = sum(
        (value - means[name]) ** 2 for name, values in successes.items() for value in values
    )
    runs = sum(map(len, successes.values()))
    freedom = runs - len(means)
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(squares / freedom * 4 / runs)
    nothing_is_positive = round(difference, 9) + 0.0
    low, high = points(difference - half), points(difference + half)
    return f"{points(nothing_is_positive)} | {low} to {high}"


def test_an_effect_by_hand() -> None:
    cells = {"a": [0.5, 0.7], "b": [0.5, 0.5], "c": [0.3, 0.3], "d": [0.4, 0.4]}
    # Means 0.6, 0.5, 0.3, 0.4: 0.55 less 0.35. The variance within is 0.02 / 4, over 4 runs on each
    # side; t is 2.776.
    half = 100 * 2.776 * math.sqrt(0.005 * 2 / 4)
    assert effect(cells, ("a", "b")) == f"+20.0 | {20 - half:+.1f} to {20 + half:+.1f}"


def test_the_strong_recipes_success() -> None:
    run = read_run(DOCS / "results/alfworld/seed-0", [])
    cells = [cell(run.evaluations[step]) for step in (0, 20, 60)]
    assert "| all | 140 | {} | {} | **{}** |".format(*cells) in PAGE


def cell(evaluation: Evaluation) -> str:
    score = scores({0: evaluation.splits[SPLIT]})[OVERALL]
    return f"{percent(score.success)} ({percent(score.interval[0])} - {percent(score.interval[1])})"


def test_the_success_of_smollm2() -> None:
    page = (DOCS / "results/smollm2.md").read_text()
    folder = DOCS / "results/smollm2-alfworld"
    parts = [
        read_report(folder / f"{name}.json").splits[SPLIT] for name in ("after-sft", "after-gmpo")
    ]
    for family in parts[0].families:
        cells = [of_score(part.families[family]) for part in parts]
        assert f"| {family} | {parts[0].families[family].n} | {cells[0]} | {cells[1]} |" in page
    sft, gmpo = (of_score(part.overall) for part in parts)
    assert f"| all | 140 | {sft} | **{gmpo}** |" in page
    before = read_report(folder / "before.json").splits[SPLIT].overall
    assert f"{before.n} games, {of_score(before)}" in page


def of_score(score: Score) -> str:
    low, high = score.interval
    return f"{percent(score.success)} ({percent(low)} - {percent(high)})"
