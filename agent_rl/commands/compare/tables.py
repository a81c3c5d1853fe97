"""The tables of a comparison: made once, shown in Markdown and on the terminal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
from agent_rl.commands.compare.mechanism import MECHANISM, MechanismMetric
from agent_rl.commands.compare.published import Published
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL, Spread
from agent_rl.commands.compare.times import TIMES
from agent_rl.display import interval, percent, points, points_interval
from agent_rl.runs.layout import FINAL_REPORT, step_name

_READING = {
    "unlisted_furniture": "unlisted furniture",
    "unseen_things": "unseen things",
    "repeated_refusals": "repeated refusals",
}
"""The fields of `ReadingScore`, and the heads of their columns."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of texts."""

    title: str
    """Stands above the table."""
    heads: Sequence[str]
    """The heads of the columns."""
    rows: Sequence[Sequence[str]]
    """A text for each column."""
    left: int = 1
    """The number of text columns, which are aligned left. The columns after them are numbers."""
    page_only: Sequence[int] = ()
    """The columns that the terminal leaves out, because it has less room than the page."""

    def markdown(self) -> str:
        """The table in Markdown."""
        rule = ["---" if column < self.left else "---:" for column in range(len(self.heads))]
        lines = []
        for row in (self.heads, rule, *self.rows):
            cells = " | ".join(cell.replace("|", "\\|") for cell in row)
            lines.append(f"| {cells} |")
        return "\n".join(lines)

    def table(self) -> Table:
        """The table for the terminal."""
        table = Table(
            title=escape(self.title),
            title_justify="left",
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        columns = [column for column in range(len(self.heads)) if column not in self.page_only]
        for column in columns:
            table.add_column(
                escape(self.heads[column]),
                justify="left" if column < self.left else "right",
                no_wrap=column == 0,
                overflow="fold",
            )
        for row in self.rows:
            table.add_row(*(escape(row[column]) for column in columns))
        return table


def runs_table(comparison: Comparison) -> Grid:
    """A row per run: its steps, its last evaluation, its time and tokens."""
    heads = (
        "run",
        "variant",
        "rollout steps",
        "evaluated",
        f"success, last {RECENT} steps %",
        "minutes",
        "tokens",
    )
    rows = []
    for variant in comparison.variants:
        for run in variant.runs:
            row = (
                run.name,
                variant.label,
                _steps(run),
                _evaluation(run),
                percent(run.recent_success),
                f"{run.seconds / 60:.1f}",
                f"{run.tokens:,}",
            )
            rows.append(row)
    return Grid(title="Runs", heads=heads, rows=rows, left=4)


def family_table(comparison: Comparison, split: str, references: Sequence[Published]) -> Grid:
    """Success by family: a column per variant, then the starts of sweeps, then published rows."""
    columns = {_marked(variant): variant.scores.get(split, {}) for variant in comparison.variants}
    for label, by_split in comparison.starts.items():
        columns[label] = by_split.get(split, {})
    families = sorted(set().union(*columns.values()) - {OVERALL})
    rows = []
    for name in (OVERALL, *families):
        games = sorted({scores[name].games for scores in columns.values() if name in scores})
        ours = [_score_cell(scores.get(name)) for scores in columns.values()]
        family = None if name == OVERALL else name
        theirs = [row.cell(split, family) for row in references]
        rows.append((name, "/".join(map(str, games)), *ours, *theirs))
    heads = ("family", "games", *columns, *(f"published {row.name}" for row in references))
    return Grid(title=f"Success on {split}, % (95 % interval by game)", heads=heads, rows=rows)


def seeds_table(comparison: Comparison, split: str | None) -> Grid:
    """Success over seeds: held out on `split`, or in the last rollout steps if it is None."""
    rows = []
    for variant in comparison.variants:
        spread = variant.recent_success if split is None else _held_out(variant, split)
        if spread is None:
            rows.append((_marked(variant), "no evaluation", "", ""))
            continue
        rows.append(
            (_marked(variant), _each(spread), percent(spread.centre), _range(spread, percent))
        )
    measured = f"the last {RECENT} rollout steps of training" if split is None else split
    heads = ("variant", "seed: success %", "IQM", "95 % interval over seeds")
    return Grid(title=f"Success over seeds, {measured}", heads=heads, rows=rows, left=2)


def reading_table(comparison: Comparison, split: str) -> Grid:
    """Whether the policies read: a row per variant whose evaluations say so, shares in percent."""
    rows = []
    for variant in comparison.variants:
        shares = variant.reading.get(split)
        if shares:
            row = [variant.label]
            for name in _READING:
                spread = shares.get(name)
                row += ["", ""] if spread is None else [percent(spread.centre), _each(spread)]
            rows.append(row)
    heads = ["variant"]
    for head in _READING.values():
        heads += [f"{head} %", "by seed"]
    return Grid(title=f"Reading on {split}", heads=heads, rows=rows, page_only=(2, 4, 6))


def pairs_table(comparison: Comparison, split: str) -> Grid:
    """The paired tests over all seeds, a row per pair."""
    tests = comparison.tests.get(split, ())
    rows = []
    seeds_tested = 0
    for test in tests:
        over_seeds = ("", "")
        if test.over_seeds is not None:
            seeds_tested += 1
            over_seeds = (
                points_interval(test.over_seeds.interval),
                p_value(test.over_seeds.p_holm),
            )
        by_game = (points(test.difference), points_interval(test.interval), p_value(test.p))
        pair = (f"{test.a} - {test.b}", str(test.games))
        rows.append((*pair, *by_game, p_value(test.p_holm), *over_seeds))
    heads = (
        "pair",
        "games",
        "points",
        "95 % interval by game",
        "p",
        f"p, Holm over {len(rows)}",
        "95 % interval over seeds",
        f"p over seeds, Holm over {seeds_tested}",
    )
    return Grid(title=f"Paired over all seeds, {split}", heads=heads, rows=rows, page_only=(1, 4))


def seed_pairs_table(comparison: Comparison, split: str) -> Grid:
    """The paired tests of single seeds (McNemar), a row per pair and seed."""
    rows = []
    for test in comparison.tests.get(split, ()):
        for single in test.seeds:
            row = (
                f"{test.a} - {test.b}",
                str(single.seed),
                points(single.difference),
                str(single.only_a),
                str(single.only_b),
                p_value(single.p),
                p_value(single.p_holm),
            )
            rows.append(row)
    heads = (
        "pair",
        "seed",
        "points",
        "won by the first only",
        "by the second only",
        "McNemar's p",
        f"p, Holm over {len(rows)}",
    )
    return Grid(title=f"Paired seed by seed, {split}", heads=heads, rows=rows)


def mechanism_table(comparison: Comparison) -> Grid:
    """A row per metric and variant: over the run, in its first and last quarter, its deviation."""
    rows: list[Sequence[str]] = []
    for metric in MECHANISM:
        measured = [each for each in comparison.variants if metric.name in each.mechanism]
        values: set[float | None] = set()
        for variant in measured:
            values.update(variant.mechanism[metric.name].whole.seeds.values())
        if metric.row and not values <= {metric.absent}:
            for variant in measured:
                rows.append(_mechanism_row(metric, variant))
    heads = (
        "metric",
        "variant",
        "whole run",
        "over seeds",
        "first quarter",
        "last quarter",
        "change",
        "over seeds",
        "deviation",
    )
    return Grid(title="The mechanism", heads=heads, rows=rows, left=2, page_only=(3, 7))


def _mechanism_row(metric: MechanismMetric, variant: Variant) -> Sequence[str]:
    def number(value: float) -> str:
        return f"{value:.{metric.digits}g}"

    phases = variant.mechanism[metric.name]
    return (
        metric.row,
        variant.label,
        number(phases.whole.centre),
        _range(phases.whole, number),
        number(phases.first.centre),
        number(phases.last.centre),
        _signed(phases.change.centre),
        _range(phases.change, _signed),
        _number(phases.deviation.centre),
    )


def times_table(comparison: Comparison) -> Grid:
    """A row per variant whose runs say where their time went: shares in percent, and rates."""
    rows = []
    for variant in comparison.variants:
        if variant.times:
            cells = []
            for metric in TIMES:
                value = variant.times[metric.name]
                cells.append(percent(value) if metric.is_share else f"{value:,.0f}")
            rows.append((variant.label, *cells))
    heads = ("variant", *(metric.name for metric in TIMES))
    page_only = [column for column, metric in enumerate(TIMES, start=1) if metric.page_only]
    return Grid(title="Where the time went, %", heads=heads, rows=rows, page_only=page_only)


def p_value(p: float) -> str:
    """A p in three digits."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _marked(variant: Variant) -> str:
    """The label, marked if some of its runs are unfinished."""
    finished = all(run.is_finished for run in variant.runs)
    return variant.label if finished else f"{variant.label} (unfinished)"


def _steps(run: RunSummary) -> str:
    return str(run.steps) if run.is_finished else f"{run.steps} of {run.rollout_steps}, unfinished"


def _evaluation(run: RunSummary) -> str:
    """How the last evaluation was made, and after which rollout step."""
    if run.evaluation is None or run.evaluated_after is None:
        return "none"
    if run.evaluation == FINAL_REPORT:
        made = "final"
    elif run.evaluation == f"{step_name(run.evaluated_after)}.json":
        made = "training"
    else:
        made = "afterwards"
    return f"{made}, {run.evaluated_after}"


def _score_cell(score: FamilyScore | None) -> str:
    if score is None:
        return ""
    return f"{percent(score.success)} ({interval(score.interval, between=' - ')})"


def _each(spread: Spread) -> str:
    """The share of each seed, in percent."""
    return ", ".join(f"{seed}: {percent(value)}" for seed, value in spread.seeds.items())


def _held_out(variant: Variant, split: str) -> Spread | None:
    """Success on all games of a split over seeds; None without an evaluation."""
    scores = variant.scores.get(split)
    return scores[OVERALL].over_seeds if scores else None


def _range(spread: Spread, show: Callable[[float], str]) -> str:
    """The interval over seeds; with few seeds the range, marked as one; empty for one seed."""
    if len(spread.seeds) == 1:
        return ""
    mark = "" if len(spread.seeds) >= SEEDS_FOR_INTERVAL else "range "
    return f"{mark}{show(spread.low)} to {show(spread.high)}"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:+.3g}"
