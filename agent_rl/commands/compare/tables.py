"""The tables of a comparison: made once, shown in Markdown and on the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.commands.compare.comparison import (
    OVERALL,
    RECENT,
    Comparison,
    FamilyScore,
    RunSummary,
    Variant,
)
from agent_rl.commands.compare.published import Published
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL, Spread
from agent_rl.runs.layout import FINAL_REPORT

MECHANISM_ROWS = {
    "ratio_p01": "ratio, p01",
    "ratio_p99": "ratio, p99",
    "ratio_range": "ratio, p99 - p01",
    "log_ratio_rms": "log-ratio, rms",
    "clip_fraction_low": "clipped, A < 0",
    "clip_fraction_high": "clipped, A > 0",
    "grad_norm": "gradient norm",
    "entropy": "entropy",
    "mismatch_abs_mean": "mismatch",
}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of texts; all columns but the first `left` are numbers, set to the right. Those of
    `page_only` are left out on the terminal, where there is less room.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    page_only: Sequence[int] = ()

    def markdown(self) -> str:
        rule = ["---" if i < self.left else "---:" for i in range(len(self.heads))]
        lines = [self.heads, rule, *self.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )

    def table(self) -> Table:
        title = escape(self.title)
        table = Table(
            title=title,
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        shown = [i for i in range(len(self.heads)) if i not in self.page_only]
        for i in shown:
            justify: Literal["left", "right"] = "left" if i < self.left else "right"
            table.add_column(
                escape(self.heads[i]), justify=justify, no_wrap=i == 0, overflow="fold"
            )
        for row in self.rows:
            table.add_row(*(escape(row[i]) for i in shown))
        return table


def runs_table(comparison: Comparison) -> Grid:
    """A line per run: how far it went, its last evaluation, time and tokens."""
    heads = (
        "run",
        "variant",
        "rollout steps",
        "evaluated",
        f"success, last {RECENT} steps %",
        "minutes",
        "tokens",
    )
    rows = [
        (
            run.name,
            variant.label,
            _steps(run),
            _evaluation(run),
            percent(run.recent_success),
            f"{run.seconds / 60:.1f}",
            f"{run.tokens:,}",
        )
        for variant in comparison.variants
        for run in variant.runs
    ]
    return Grid(title="Runs", heads=heads, rows=rows, left=4)


def family_table(comparison: Comparison, split: str, references: Sequence[Published]) -> Grid:
    """Success by family, a column per variant; then what sweeps began with, then published rows."""
    columns = {_marked(variant): variant.scores.get(split, {}) for variant in comparison.variants}
    columns |= {label: of_split.get(split, {}) for label, of_split in comparison.starts.items()}
    families = sorted({name for scores in columns.values() for name in scores} - {OVERALL})
    rows = []
    for name in (OVERALL, *families):
        games = sorted({scores[name].games for scores in columns.values() if name in scores})
        ours = [_score_cell(scores.get(name)) for scores in columns.values()]
        theirs = [row.cell(split, None if name == OVERALL else name) for row in references]
        rows.append((name, "/".join(map(str, games)), *ours, *theirs))
    heads = ("family", "games", *columns, *(f"published {row.name}" for row in references))
    return Grid(title=f"Success on {split}, % (95 % interval by game)", heads=heads, rows=rows)


def seeds_table(comparison: Comparison, split: str | None) -> Grid:
    """Success over seeds: held out on `split`, or, where it is None, in the last rollout steps of
    training.
    """
    rows = []
    for variant in comparison.variants:
        found = variant.recent_success if split is None else _over_seeds(variant, split)
        if found is None:
            rows.append((_marked(variant), "no evaluation", "", ""))
            continue
        each = ", ".join(f"{seed}: {percent(value)}" for seed, value in found.seeds.items())
        rows.append((_marked(variant), each, percent(found.centre), _span(found, percent)))
    what = f"the last {RECENT} rollout steps of training" if split is None else split
    heads = ("variant", "seed: success %", "IQM", "95 % interval over seeds")
    return Grid(title=f"Success over seeds, {what}", heads=heads, rows=rows, left=2)


def pairs_table(comparison: Comparison, split: str) -> Grid:
    """The paired tests over all seeds, a line per pair."""
    rows = [
        (
            f"{test.a} - {test.b}",
            str(test.games),
            points(test.difference),
            _points_span(test.interval),
            p_value(test.p),
            p_value(test.p_holm),
            _points_span(test.over_seeds.interval) if test.over_seeds else "",
            p_value(test.over_seeds.p_holm) if test.over_seeds else "",
        )
        for test in comparison.tests.get(split, ())
    ]
    drawn = sum(test.over_seeds is not None for test in comparison.tests.get(split, ()))
    by_game = ("pair", "games", "points", "95 % interval by game", "p", f"p, Holm over {len(rows)}")
    heads = (*by_game, "95 % interval over seeds", f"p over seeds, Holm over {drawn}")
    return Grid(title=f"Paired over all seeds, {split}", heads=heads, rows=rows, page_only=(1, 4))


def seed_pairs_table(comparison: Comparison, split: str) -> Grid:
    """The paired tests of single seeds (McNemar)."""
    rows = [
        (
            f"{test.a} - {test.b}",
            str(one.seed),
            points(one.difference),
            str(one.only_a),
            str(one.only_b),
            p_value(one.p),
            p_value(one.p_holm),
        )
        for test in comparison.tests.get(split, ())
        for one in test.seeds
    ]
    heads = ("pair", "seed", "points", "won by the first only", "by the second only", "McNemar's p")
    return Grid(
        title=f"Paired seed by seed, {split}",
        heads=(*heads, f"p, Holm over {len(rows)}"),
        rows=rows,
    )


def mechanism_table(comparison: Comparison) -> Grid:
    """A line per metric and variant: over the run, at its beginning and end, and how much it moves."""
    rows = []
    for name, meaning in MECHANISM_ROWS.items():
        for variant in comparison.variants:
            found = variant.mechanism[name]
            rows.append(
                (
                    meaning,
                    variant.label,
                    _number(found.whole.centre),
                    _span(found.whole, _number),
                    _number(found.first.centre),
                    _number(found.last.centre),
                    f"{found.change.centre:+.3g}",
                    _span(found.change, lambda x: f"{x:+.3g}"),
                    _number(found.deviation.centre),
                )
            )
    heads = (
        "metric",
        "variant",
        "whole run",
        "over seeds",
        "first quarter",
        "last quarter",
        "change",
        "over seeds",
    )
    return Grid(
        title="The mechanism", heads=(*heads, "deviation"), rows=rows, left=2, page_only=(3, 7)
    )


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _points_span(interval: tuple[float, float]) -> str:
    return f"{points(interval[0])} to {points(interval[1])}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _marked(variant: Variant) -> str:
    """The label, with a word where not all of its runs are finished."""
    return (
        variant.label
        if all(run.is_finished for run in variant.runs)
        else f"{variant.label} (unfinished)"
    )


def _steps(run: RunSummary) -> str:
    return str(run.steps) if run.is_finished else f"{run.steps} of {run.rollout_steps}, unfinished"


def _evaluation(run: RunSummary) -> str:
    if run.evaluation is None:
        return "none"
    made = {FINAL_REPORT: "final", f"step-{run.evaluated_after:06d}.json": "training"}
    return f"{made.get(run.evaluation, 'afterwards')}, {run.evaluated_after}"


def _score_cell(score: FamilyScore | None) -> str:
    if score is None:
        return ""
    return f"{percent(score.success)} ({percent(score.interval[0])} - {percent(score.interval[1])})"


def _over_seeds(variant: Variant, split: str) -> Spread | None:
    scores = variant.scores.get(split)
    return scores[OVERALL].over_seeds if scores else None


def _span(found: Spread, show: Callable[[float], str]) -> str:
    """The interval; with few seeds, the range, which says that it is one; nothing for one seed."""
    if len(found.seeds) == 1:
        return ""
    mark = "" if len(found.seeds) >= SEEDS_FOR_INTERVAL else "range "
    return f"{mark}{show(found.low)} to {show(found.high)}"


def _number(value: float) -> str:
    return f"{value:.3g}"
