"""What a sweep's grid says, as values: which arm holds where, over one of its axes.

One axis is laid out, from its first point to its last: `x`. The points of the other axes are the
panels. `docs/results/age-of-data.md` says why the two bounds are what they are.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agent_rl.commands.compare.mechanism import MECHANISM
from agent_rl.commands.compare.runs import has_begun, read_run
from agent_rl.commands.compare.seeds import Curve, Spread, curve, over_seeds
from agent_rl.commands.sweep.attempt import read_attempts
from agent_rl.commands.sweep.plan import Sweep, SweepJob
from agent_rl.config import ConfigError
from agent_rl.evaluation.report import is_report, read_report
from agent_rl.evaluation.scores import Score
from agent_rl.evaluation.statistics import Interval, mcnemar, paired_seeds

COLLAPSED_BELOW = 0.5
"""A run collapsed if its final success is below this part of the start's."""
STABLE_WITHIN = 0.05
"""A run is stable if its final success is at most this much under the start's."""
WORTH_CONFIRMING = 0.05
"""A cell is confirmed with other seeds if its arms differ by this much."""
NOT_FINITE = "FloatingPointError"
"""The error of a run whose loss or gradient was not finite. Its success counts as 0."""


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run that has ended."""

    name: str
    """The name of its folder."""
    arm: str
    """The variant of the config."""
    panel: str
    """The names of its points on the other axes; empty if there is one axis."""
    x: int
    """The place of its point on the axis that is laid out, from 0."""
    seed: int
    """Its seed."""
    success: float
    """Of the final evaluation, 0 to 1; 0 if its loss was not finite."""
    was_finite: bool
    """Whether its losses and gradients were finite to the end."""
    mechanism: Mapping[str, float]
    """The metrics of `MECHANISM` that it has, by name: means over its rollout steps."""


@dataclass(frozen=True, kw_only=True)
class ArmCurve:
    """An arm in a panel, over the axis that is laid out."""

    arm: str
    """The variant."""
    panel: str
    """The points on the other axes."""
    success: Curve
    """Final success over `x`, with a curve for each seed."""
    runs: int
    """How many runs have ended."""
    collapsed: int
    """How many of them collapsed."""
    collapsed_at: Mapping[int, int]
    """The same by `x`, where some did."""
    highest_stable: Mapping[int, int]
    """By seed: the highest x at which, as at all before it, the run is stable; -1 if there is none.
    Seeds with a run to come before that are absent."""
    area: Spread | None
    """Mean success over the axis by the trapezoid rule, each step of the axis alike; None if no
    seed has all points."""

    @property
    def stable_in_all(self) -> int | None:
        """The highest x up to which every seed is stable; None if no seed is known."""
        return min(self.highest_stable.values(), default=None)


@dataclass(frozen=True, kw_only=True)
class CellPair:
    """Two arms in one cell, over the seeds that both have."""

    a: str
    """The first arm."""
    b: str
    """The second arm."""
    panel: str
    """The points on the other axes."""
    x: int
    """The place on the axis that is laid out."""
    differences: Mapping[int, float]
    """Success of `a` less that of `b`, by seed."""
    interval: Interval | None
    """The 95 % t interval of the mean difference; None with one seed."""
    collapsed_a: int
    """How many of these runs of `a` collapsed."""
    collapsed_b: int
    """How many of those of `b`."""
    p_collapse: float
    """McNemar's exact p over seeds, of the seeds in which one of the two collapsed."""
    one_is_stable: bool
    """Whether all of these runs of one arm are stable."""

    @property
    def difference(self) -> float:
        """The mean difference."""
        return statistics.fmean(self.differences.values())


@dataclass(frozen=True, kw_only=True)
class GridResults:
    """All of it."""

    axis: str
    """The axis that is laid out."""
    xs: Sequence[str]
    """The names of its points."""
    split: str
    """The split that success is of."""
    start: Score
    """The score of the policy that all runs begin with."""
    curves: Sequence[ArmCurve]
    """Panel by panel, the arms in the config's order."""
    pairs: Sequence[CellPair]
    """Pair by pair, then by panel and x."""
    runs: Sequence[GridRun]
    """All runs that have ended."""
    missing: Sequence[str]
    """The names of the runs that have not."""


def read_grid(
    sweep: Sweep, *, over: str | None = None, pairs: Sequence[tuple[str, str]] = ()
) -> GridResults:
    """Read the runs of a sweep with a grid.

    Args:
        sweep: its runs may be unfinished, or not begun.
        over: the axis to lay out; by default the last one.
        pairs: arms to compare in each cell.

    Raises:
        ConfigError: there is no grid, axis or arm of that name, or no start or no run to show yet.
    """
    axis = _axis(sweep, over)
    _refuse_unknown_arms(sweep, pairs)
    start_report = sweep.start.layout.final_report
    if not is_report(start_report):
        raise ConfigError(f"{start_report}: the start is not evaluated yet; run the sweep first")
    split = sweep.start.config.evaluation.split[0]
    start = read_report(start_report).splits[split].overall
    runs, missing = [], []
    for job in sweep.runs:
        run = _read_run(job, sweep, axis, split)
        if run is None:
            missing.append(job.name)
        else:
            runs.append(run)
    if not runs:
        raise ConfigError(f"{sweep.folder}: no run has ended yet")
    return GridResults(
        axis=axis,
        xs=sweep.axes[axis],
        split=split,
        start=start,
        curves=_curves(runs, start.success, len(sweep.axes[axis])),
        pairs=[pair for a, b in pairs for pair in _pairs(runs, a, b, start.success)],
        runs=runs,
        missing=missing,
    )


def is_collapsed(success: float, start: float) -> bool:
    """Whether a run of that success collapsed."""
    return success < COLLAPSED_BELOW * start


def is_stable(success: float, start: float) -> bool:
    """Whether a run of that success is stable."""
    return success >= start - STABLE_WITHIN


def cell_to_confirm(pairs: Sequence[CellPair]) -> CellPair | None:
    """The cell of the first pair to confirm with other seeds, by the rule of the page.

    Of the cells in which one arm is stable, it is that of the largest mean difference, whatever its
    sign. The earlier one wins a tie. None if no difference is worth it.
    """
    candidates = []
    for pair in pairs:
        is_first = (pair.a, pair.b) == (pairs[0].a, pairs[0].b)
        if is_first and pair.one_is_stable and abs(pair.difference) >= WORTH_CONFIRMING:
            candidates.append(pair)
    return max(candidates, key=lambda pair: abs(pair.difference), default=None)


def _axis(sweep: Sweep, over: str | None) -> str:
    axes = list(sweep.axes)
    if not axes:
        raise ConfigError(
            "--map: this sweep has no grid to lay out; use `agent-rl compare "
            f"{sweep.folder}`, or write sweep.grid"
        )
    if over is not None and over not in axes:
        raise ConfigError(
            f"--over {over}: no such axis in sweep.grid; there are: {', '.join(axes)}"
        )
    return over or axes[-1]


def _refuse_unknown_arms(sweep: Sweep, pairs: Sequence[tuple[str, str]]) -> None:
    arms = list(dict.fromkeys(job.arm for job in sweep.runs))
    for pair in pairs:
        for arm in pair:
            if arm not in arms:
                raise ConfigError(
                    f"--pair {','.join(pair)}: no variant {arm}; there are: {', '.join(arms)}"
                )


def _read_run(job: SweepJob, sweep: Sweep, axis: str, split: str) -> GridRun | None:
    """A run that has ended; None for others."""
    attempts = read_attempts(job)
    was_finite = not (attempts and NOT_FINITE in attempts[-1].error)
    if is_report(job.layout.final_report):
        success = read_report(job.layout.final_report).splits[split].overall.success
    elif not was_finite:
        success = 0.0
    else:
        return None
    others = [point for name, point in job.points.items() if name != axis]
    return GridRun(
        name=job.name,
        arm=job.arm,
        panel=" ".join(others),
        x=list(sweep.axes[axis]).index(job.points[axis]),
        seed=job.config.seed,
        success=success,
        was_finite=was_finite,
        mechanism=_mechanism(job),
    )


def _mechanism(job: SweepJob) -> dict[str, float]:
    """The means of the mechanism's metrics over the rollout steps."""
    if not has_begun(job.folder):
        return {}
    lines = read_run(job.folder, []).metrics
    means = {}
    for metric in MECHANISM:
        values = [value for line in lines if (value := metric.value(line)) is not None]
        if values:
            means[metric.name] = statistics.fmean(values)
    return means


def _by(runs: Sequence[GridRun], key: Callable[[GridRun], Any]) -> dict[Any, list[GridRun]]:
    """The runs by a key, in the order in which the keys first appear."""
    groups: dict[Any, list[GridRun]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _curves(runs: Sequence[GridRun], start: float, points: int) -> list[ArmCurve]:
    curves = []
    for of_panel in _by(runs, lambda run: run.panel).values():
        for of_arm in _by(of_panel, lambda run: run.arm).values():
            curves.append(_curve(of_arm, start, points))
    return curves


def _curve(runs: Sequence[GridRun], start: float, points: int) -> ArmCurve:
    """The curve of one arm in one panel."""
    success: dict[int, dict[int, float]] = {}
    collapsed_at: dict[int, int] = {}
    for run in sorted(runs, key=lambda run: (run.seed, run.x)):
        success.setdefault(run.seed, {})[run.x] = run.success
        if is_collapsed(run.success, start):
            collapsed_at[run.x] = collapsed_at.get(run.x, 0) + 1
    stable, areas = {}, {}
    for seed, by_x in success.items():
        highest = _highest_stable(by_x, start, points)
        if highest is not None:
            stable[seed] = highest
        if len(by_x) == points:
            areas[seed] = _area([by_x[x] for x in range(points)])
    return ArmCurve(
        arm=runs[0].arm,
        panel=runs[0].panel,
        success=curve(success),
        runs=len(runs),
        collapsed=sum(collapsed_at.values()),
        collapsed_at=dict(sorted(collapsed_at.items())),
        highest_stable=stable,
        area=over_seeds(areas) if areas else None,
    )


def _highest_stable(by_x: Mapping[int, float], start: float, points: int) -> int | None:
    """See `ArmCurve.highest_stable`; None if a run is missing before the first unstable one."""
    for x in range(points):
        if x not in by_x:
            return None
        if not is_stable(by_x[x], start):
            return x - 1
    return points - 1


def _area(values: Sequence[float]) -> float:
    """The mean of a curve by the trapezoid rule, with steps of one length."""
    if len(values) == 1:
        return values[0]
    return statistics.fmean((left + right) / 2 for left, right in pairwise(values))


def _pairs(runs: Sequence[GridRun], a: str, b: str, start: float) -> list[CellPair]:
    """The cells in which both arms have a run with a common seed."""
    found = []
    for (panel, x), of_cell in _by(runs, lambda run: (run.panel, run.x)).items():
        of_a = {run.seed: run.success for run in of_cell if run.arm == a}
        of_b = {run.seed: run.success for run in of_cell if run.arm == b}
        seeds = sorted(of_a.keys() & of_b.keys())
        if not seeds:
            continue
        differences = {seed: of_a[seed] - of_b[seed] for seed in seeds}
        broke_a = {seed for seed in seeds if is_collapsed(of_a[seed], start)}
        broke_b = {seed for seed in seeds if is_collapsed(of_b[seed], start)}
        stable_a = all(is_stable(of_a[seed], start) for seed in seeds)
        stable_b = all(is_stable(of_b[seed], start) for seed in seeds)
        pair = CellPair(
            a=a,
            b=b,
            panel=panel,
            x=x,
            differences=differences,
            interval=paired_seeds(list(differences.values())),
            collapsed_a=len(broke_a),
            collapsed_b=len(broke_b),
            p_collapse=mcnemar(len(broke_a - broke_b), len(broke_b - broke_a)),
            one_is_stable=stable_a or stable_b,
        )
        found.append(pair)
    return found
