"""Shows a sweep's grid: tables on the terminal; Markdown, JSON and a picture in a folder."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from agent_rl.commands.compare.mechanism import MECHANISM
from agent_rl.commands.compare.seeds import SEEDS_FOR_INTERVAL, Spread
from agent_rl.commands.compare.tables import Grid, p_value
from agent_rl.commands.sweep.grid_results import (
    COLLAPSED_BELOW,
    STABLE_WITHIN,
    ArmCurve,
    CellPair,
    GridResults,
    GridRun,
    cell_to_confirm,
    read_grid,
)
from agent_rl.commands.sweep.plan import Sweep
from agent_rl.config import ConfigError
from agent_rl.display import console, interval, percent, points, points_interval, say, visible
from agent_rl.files import write_json, write_text

SHOWN_METRICS = (
    "log_ratio_rms",
    "gains_p999",
    "losses_p001",
    "losses_p999",
    "effective_share",
    "top_share",
    "clip_fraction_low",
    "clip_fraction_high",
    "grad_norm_spread",
    "kl_old",
    "entropy",
    "probe_cosine",
)
"""The columns of the mechanism's table, by their names in `MECHANISM`."""
_FILES = "grid.md, grid.json, grid.png"


def show_grid(
    sweep: Sweep, *, over: str | None = None, pairs: Sequence[str] = (), to: Path | None = None
) -> GridResults:
    """Print a grid's tables and write its files.

    Args:
        sweep: the sweep.
        over: the axis to lay out; by default the last one.
        pairs: two arms each, with a comma between.
        to: the folder to write; by default the sweep's.

    Raises:
        ConfigError: there is nothing to show, or no such axis or arm.
    """
    results = read_grid(sweep, over=over, pairs=[_pair(text) for text in pairs])
    folder = to or sweep.folder
    for grid in (success_table(results), arms_table(results), pair_table(results)):
        if grid.rows:
            console.print(grid.table())
            console.print()
    for note in notes(results):
        say(f"note: {note}")
    folder.mkdir(parents=True, exist_ok=True)
    draw_grid(results, folder / "grid.png")
    write_text(folder / "grid.md", markdown(results))
    write_json(folder / "grid.json", asdict(results))
    say(f"written to {folder}: {_FILES}")
    return results


def success_table(results: GridResults) -> Grid:
    """A row per panel and arm: mean final success at each point, and how many runs collapsed."""
    rows = []
    for one in results.curves:
        row = [one.panel, one.arm]
        for x in range(len(results.xs)):
            values = [by_x[x] for by_x in one.success.seeds.values() if x in by_x]
            cell = percent(math.fsum(values) / len(values)) if values else ""
            if x in one.collapsed_at:
                cell += f" ({one.collapsed_at[x]} of {len(values)} collapsed)"
            row.append(cell)
        rows.append(row)
    score = results.start
    title = (
        f"Success on {results.split} over {results.axis}, %; the start has "
        f"{percent(score.success)} ({interval(score.interval)})"
    )
    return Grid(title=title, heads=("", "variant", *results.xs), rows=rows, left=2)


def arms_table(results: GridResults) -> Grid:
    """A row per panel and arm: highest stable point, area under the curve, collapses."""
    rows = []
    for one in results.curves:
        stable = one.stable_in_all
        each = [_point(results, x) for _, x in sorted(one.highest_stable.items())]
        row = (
            one.panel,
            one.arm,
            "" if stable is None else _point(results, stable),
            ", ".join(each) if len(each) > 1 else "",
            "" if one.area is None else percent(one.area.centre),
            "" if one.area is None else _spread(one.area),
            f"{one.collapsed} of {one.runs}",
        )
        rows.append(row)
    heads = ("", "variant", "highest stable", "by seed", "area, %", "over seeds", "collapsed")
    return Grid(title=f"By variant, over {results.axis}", heads=heads, rows=rows, left=2)


def pair_table(results: GridResults) -> Grid:
    """A row per pair and cell: the paired difference over seeds, and the collapses."""
    chosen = cell_to_confirm(results.pairs)
    rows = []
    for pair in results.pairs:
        row = (
            f"{pair.a} - {pair.b}",
            f"{pair.panel} {results.xs[pair.x]}".strip(),
            str(len(pair.differences)),
            points(pair.difference) + ("  <" if pair is chosen else ""),
            _t_interval(pair),
            f"{pair.collapsed_a}, {pair.collapsed_b}",
            p_value(pair.p_collapse),
        )
        rows.append(row)
    heads = ("pair", "cell", "seeds", "points", "95 % interval", "collapsed", "p of collapses")
    title = "Paired by seed; < marks the cell to confirm, by the rule"
    return Grid(title=title, heads=heads, rows=rows, left=2)


def mechanism_of_cells(results: GridResults) -> Grid:
    """A row per cell: the mechanism's metrics, means over rollout steps and seeds."""
    metrics = [metric for metric in MECHANISM if metric.name in SHOWN_METRICS]
    cells: dict[tuple[str, str, int], list[GridRun]] = {}
    for run in results.runs:
        cells.setdefault((run.panel, run.arm, run.x), []).append(run)
    rows = []
    for (panel, arm, x), runs in cells.items():
        row = [panel, arm, results.xs[x]]
        for metric in metrics:
            values = [run.mechanism[metric.name] for run in runs if metric.name in run.mechanism]
            mean = math.fsum(values) / len(values) if values else None
            row.append("" if mean is None else f"{mean:.{metric.digits}g}")
        rows.append(row)
    heads = ("", "variant", results.axis, *(metric.row for metric in metrics))
    return Grid(title="The mechanism", heads=heads, rows=rows, left=3)


def notes(results: GridResults) -> Iterator[str]:
    """Sentences that a reader of the tables has to know."""
    yield (
        f"collapsed: below {percent(COLLAPSED_BELOW, 0)} % of the start's success; stable: at most "
        f"{percent(STABLE_WITHIN, 0)} points under the start"
    )
    broken = [run.name for run in results.runs if not run.was_finite]
    if broken:
        yield f"a loss or gradient was not finite, which counts as success 0: {', '.join(broken)}"
    if results.missing:
        first = ", ".join(results.missing[:3])
        yield f"{len(results.missing)} runs have not ended: {first}, ..."
    few = min(len(one.success.seeds) for one in results.curves)
    if few < SEEDS_FOR_INTERVAL:
        yield f"with fewer than {SEEDS_FOR_INTERVAL} seeds the spread over seeds is their range"


def markdown(results: GridResults) -> str:
    """The grid as a page."""
    parts = [f"# Grid over {results.axis}", "\n".join(f"- {note}" for note in notes(results))]
    tables = (
        success_table(results),
        arms_table(results),
        pair_table(results),
        mechanism_of_cells(results),
    )
    for grid in tables:
        if grid.rows:
            parts += [f"## {grid.title}", grid.markdown()]
    parts += ["## Picture", f"![success over {results.axis}](grid.png)", _ON_NUMBERS]
    return visible("\n\n".join(parts) + "\n")


_ON_NUMBERS = (
    "Success is that of the final evaluation. *Highest stable* is the last point at which, as at "
    "all before it, every seed is stable; *none* if the first point is not. *Area* is the mean "
    "success over the axis by the trapezoid rule, with steps of one length. *Over seeds* is the "
    "interquartile mean's bootstrap interval, or the range of few seeds. *Paired* is the "
    "difference of two variants with the same seeds, and its t interval over seeds. *p of "
    "collapses* is McNemar's exact test over the seeds in which one of the two collapsed. Metrics "
    "of the mechanism are means over rollout steps, then over seeds."
)


def draw_grid(results: GridResults, path: Path) -> None:
    """Draw success over the axis, a panel for each point of the other axes."""
    from agent_rl.commands.compare.figures import (
        PANELS_IN_A_ROW,
        draw_panel,
        finish_figure,
        new_figure,
    )

    by_panel: dict[str, dict[str, ArmCurve]] = {}
    for one in results.curves:
        by_panel.setdefault(one.panel, {})[one.arm] = one
    arms = dict.fromkeys(one.arm for one in results.curves)
    numbers = {arm: number for number, arm in enumerate(arms)}
    columns = min(len(by_panel), PANELS_IN_A_ROW)
    rows = math.ceil(len(by_panel) / columns)
    figure, axes = new_figure(rows=rows, columns=columns, width=4.8, height=3.8)
    for (panel, curves), drawn in zip(by_panel.items(), axes, strict=False):
        success = {arm: one.success for arm, one in curves.items()}
        draw_panel(drawn, panel, success, scale=100.0, points=True, numbers=numbers)
        drawn.axhline(100.0 * results.start.success, color="#888888", linestyle=":", linewidth=1.0)
        drawn.set_xticks(range(len(results.xs)), results.xs)
        drawn.set_xlim(-0.3, len(results.xs) - 0.7)
        drawn.set_ylim(0.0, 100.0)
        drawn.set_xlabel(results.axis)
        drawn.set_ylabel("success, %")
    for unused in axes[len(by_panel) :]:
        unused.set_axis_off()
    finish_figure(figure, axes, path)


def _pair(text: str) -> tuple[str, str]:
    names = [name.strip() for name in text.split(",")]
    if len(names) != 2 or not all(names) or names[0] == names[1]:
        raise ConfigError(f"--pair {text}: write two variants with a comma between, such as a,b")
    return names[0], names[1]


def _point(results: GridResults, x: int) -> str:
    return "none" if x < 0 else results.xs[x]


def _spread(spread: Spread) -> str:
    if len(spread.seeds) == 1:
        return ""
    return interval((spread.low, spread.high), between=" to ")


def _t_interval(pair: CellPair) -> str:
    if pair.interval is None:
        return ""
    return points_interval((pair.interval.low, pair.interval.high))
