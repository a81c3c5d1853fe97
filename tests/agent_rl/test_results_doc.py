"""docs/results.md says what the files in docs/results say."""

from pathlib import Path

import pytest

from agent_rl.compare import OVERALL, compare, scores
from agent_rl.compare_tables import Grid, family_table, mechanism_table, pairs_table, percent, seeds_table
from agent_rl.published import published
from agent_rl.run_evaluations import Evaluation
from agent_rl.runs import find_runs, read_run

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "results.md").read_text()
SPLIT = "valid_seen"


@pytest.mark.parametrize(("folder", "references"), [("objectives", ["gmpo-1.5b", "grpo-1.5b"])])
def test_the_tables_of_a_comparison(folder: str, references: list[str]) -> None:
    comparison = compare(find_runs([DOCS / "results" / folder]))
    rows = published(references, comparison.env)
    for grid in (family_table(comparison, SPLIT, rows), seeds_table(comparison, SPLIT), pairs_table(comparison, SPLIT)):
        assert grid.markdown() in PAGE, grid.title
    shown = {"ratio, p99 - p01", "log-ratio, rms", "clipped, A < 0", "clipped, A > 0", "gradient norm", "entropy"}
    mechanism = mechanism_table(comparison)
    some = Grid(
        title=mechanism.title, heads=mechanism.heads, left=2, rows=[row for row in mechanism.rows if row[0] in shown]
    )
    assert some.markdown() in PAGE


def test_the_strong_recipes_success() -> None:
    run = read_run(DOCS / "results/alfworld/seed-0", [])
    cells = [cell(run.evaluations[step]) for step in (0, 20, 60)]
    assert "| all | 140 | {} | {} | **{}** |".format(*cells) in PAGE


def cell(evaluation: Evaluation) -> str:
    score = scores({0: evaluation.splits[SPLIT]})[OVERALL]
    return f"{percent(score.success)} ({percent(score.interval[0])} - {percent(score.interval[1])})"
