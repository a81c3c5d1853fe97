"""The curves of a report as plain values; the page draws them with Plotly, in its own colours."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent_rl.commands.compare.comparison import OVERALL, scores
from agent_rl.commands.compare.runs import Run
from agent_rl.commands.compare.seeds import WINDOW, smoothed

Families = Mapping[int, Mapping[str, tuple[int, int]]]
"""Successes and scored episodes by rollout step and family."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart."""

    name: str
    """Its name in the legend: the quantity's, and the run's if there are several."""
    run: int
    """The index of its run, which chooses the colour if there are several runs."""
    x: Sequence[int]
    """Rollout steps."""
    y: Sequence[float]
    """Values, in the chart's unit."""
    marked: bool = False
    """Whether its points are marked, because they are few."""
    low: Sequence[float] = ()
    """The lower end of each point's 95 % interval; empty without intervals."""
    high: Sequence[float] = ()
    """The upper ends."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One chart."""

    title: str
    """What it shows."""
    unit: str
    """The unit of y; "" for a plain number."""
    note: str
    """How to read it, in a sentence; "" if it needs none."""
    lines: Sequence[Line]
    """Its lines."""
    stacked: bool = False
    """Whether the lines are parts of a whole, one on the other."""


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    title: str
    keys: Mapping[str, str]
    """The key in metrics.jsonl by the line's name; "" is the only one."""
    unit: str = ""
    scale: float = 1.0
    note: str = ""
    smooth: bool = False
    stacked: bool = False


_PERCENT: dict[str, Any] = {"unit": "%", "scale": 100.0}
_QUANTITIES = (
    _Quantity(
        title="Return",
        keys={"": "rollout/return"},
        note=f"Mean over {WINDOW} steps.",
        smooth=True,
    ),
    _Quantity(title="Turns of an episode", keys={"": "rollout/turns"}),
    _Quantity(
        title="Refused commands",
        keys={"refused": "rollout/invalid_actions", "cut off": "rollout/truncated_actions"},
        note="Of all actions: unreadable or not admissible; cut off by their token limit.",
        **_PERCENT,
    ),
    _Quantity(
        title="Groups without a signal",
        keys={"": "rollout/groups_without_signal"},
        note="All their scores are equal, so all advantages are 0.",
        **_PERCENT,
    ),
    _Quantity(
        title="Ratio",
        keys={
            "1st percentile": "learner/ratio_p01",
            "median": "learner/ratio_p50",
            "99th percentile": "learner/ratio_p99",
        },
        note="New over old probability of the trained tokens.",
    ),
    _Quantity(
        title="Clipped tokens",
        keys={
            "A < 0": "learner/clip_fraction_low",
            "A > 0": "learner/clip_fraction_high",
            "A < 0, dual": "learner/clip_fraction_dual",
        },
        note="Trained tokens whose gradient a bound removed, by the advantage's sign.",
        **_PERCENT,
    ),
    _Quantity(title="Entropy", keys={"": "learner/entropy"}, unit="nats a token"),
    _Quantity(
        title="KL",
        keys={
            "from the old policy": "learner/kl_old",
            "from the reference": "learner/kl_reference",
        },
        unit="nats a token",
    ),
    _Quantity(
        title="Mismatch",
        keys={"": "learner/mismatch_abs_mean"},
        unit="nats",
        note="Mean of |learner's log-prob - sampler's|.",
    ),
    _Quantity(
        title="Staleness",
        keys={"mean": "learner/staleness_mean", "largest": "learner/staleness_max"},
        unit="versions",
    ),
    _Quantity(title="Gradient norm", keys={"": "learner/grad_norm"}),
    _Quantity(title="Learning rate", keys={"": "learner/learning_rate"}),
    _Quantity(
        title="Where the time goes",
        keys={
            name: f"time/{name}_share"
            for name in (
                "policy",
                "env",
                "slowest",
                "learner",
                "sync",
                "files",
                "checkpoint",
                "evaluation",
                "other",
            )
        },
        note="Shares of a step's time; 'slowest' waits for the last episodes.",
        stacked=True,
        **_PERCENT,
    ),
    _Quantity(title="Time of a step", keys={"": "time/seconds"}, unit="s"),
    _Quantity(title="Throughput", keys={"": "time/tokens_per_second"}, unit="tokens a second"),
    _Quantity(title="Memory of the learner", keys={"": "learner/peak_memory_gib"}, unit="GiB"),
)


def charts(runs: Sequence[Run], families: Sequence[Families]) -> list[Chart]:
    """All charts that the runs have numbers for.

    Args:
        runs: the runs.
        families: for each run its episodes' outcomes.
    """
    made = [_success(runs), *_held_out(runs), *_by_family(runs, families)]
    for quantity in _QUANTITIES:
        if quantity.stacked:
            # One on the other, several runs would hide each other.
            made += [_chart(quantity, runs, [number]) for number in range(len(runs))]
        else:
            made.append(_chart(quantity, runs, range(len(runs))))
    with_lines = []
    for chart in made:
        lines = [line for line in chart.lines if line.x]
        if lines:
            with_lines.append(replace(chart, lines=lines))
    return with_lines


def record(chart: Chart) -> dict[str, Any]:
    """The chart for the page, with numbers of five digits."""
    values = asdict(chart)
    for line in values["lines"]:
        for key in ("y", "low", "high"):
            line[key] = [float(f"{value:.5g}") for value in line[key]]
    return values


def _success(runs: Sequence[Run]) -> Chart:
    lines = []
    for number, run in enumerate(runs):
        x, y = _smoothed(run, "rollout/success")
        lines.append(Line(name=_name(runs, number, ""), run=number, x=x, y=_times(y, 100)))
    return Chart(
        title="Success in training",
        unit="%",
        note=f"Episodes of a rollout step; mean over {WINDOW} steps.",
        lines=lines,
    )


def _held_out(runs: Sequence[Run]) -> Iterator[Chart]:
    """A chart for each split that some evaluation has."""
    splits: dict[str, None] = {}
    for run in runs:
        for evaluation in run.evaluations.values():
            splits.update(dict.fromkeys(evaluation.splits))
    for split in splits:
        lines = []
        for number, run in enumerate(runs):
            points = []
            for step, evaluation in sorted(run.evaluations.items()):
                games = evaluation.splits.get(split)
                if games:
                    points.append((step, scores({run.config.seed: games})[OVERALL]))
            line = Line(
                name=_name(runs, number, ""),
                run=number,
                x=[step for step, _ in points],
                y=[100 * score.success for _, score in points],
                low=[100 * score.interval[0] for _, score in points],
                high=[100 * score.interval[1] for _, score in points],
                marked=True,
            )
            lines.append(line)
        yield Chart(
            title=f"Held-out success, {split}",
            unit="%",
            note="All evaluations, with 95 % intervals by game; step 0 is the start.",
            lines=lines,
        )


def _by_family(runs: Sequence[Run], families: Sequence[Families]) -> Iterator[Chart]:
    """Success in training by family: one chart for one run, else a chart for each family."""
    names = sorted({name for of_run in families for step in of_run.values() for name in step})
    if len(names) < 2:
        return
    lines: dict[str, list[Line]] = {name: [] for name in names}
    for number, of_run in enumerate(families):
        for name in names:
            steps = [step for step in sorted(of_run) if name in of_run[step]]
            shares = [of_run[step][name][0] / of_run[step][name][1] for step in steps]
            y = list(smoothed(shares).values())
            label = name if len(runs) == 1 else _name(runs, number, "")
            lines[name].append(Line(name=label, run=number, x=steps, y=_times(y, 100)))
    note = f"Of the episodes that are still on disk; mean over {WINDOW} steps."
    if len(runs) == 1:
        every = [line for name in names for line in lines[name]]
        yield Chart(title="Success by family", unit="%", note=note, lines=every)
        return
    for name in names:
        yield Chart(title=f"Success, {name}", unit="%", note=note, lines=lines[name])


def _chart(quantity: _Quantity, runs: Sequence[Run], numbers: Iterable[int]) -> Chart:
    lines = []
    chosen = list(numbers)
    title = quantity.title
    if quantity.stacked and len(runs) > 1:
        title += f", {runs[chosen[0]].name}"
    for number in chosen:
        for name, key in quantity.keys.items():
            if quantity.smooth:
                x, y = _smoothed(runs[number], key)
            else:
                x, y = _values(runs[number], key)
            named = name if quantity.stacked else _name(runs, number, name)
            lines.append(Line(name=named, run=number, x=x, y=_times(y, quantity.scale)))
    return Chart(
        title=title,
        unit=quantity.unit,
        note=quantity.note,
        lines=lines,
        stacked=quantity.stacked,
    )


def _name(runs: Sequence[Run], number: int, quantity: str) -> str:
    """The name of a line: of the quantity, of the run, or of both."""
    if len(runs) == 1:
        return quantity
    return f"{runs[number].name}: {quantity}" if quantity else runs[number].name


def _values(run: Run, key: str) -> tuple[list[int], list[float]]:
    """The steps that have a finite number for a key, and the numbers."""
    x, y = [], []
    for step, line in enumerate(run.metrics, start=1):
        value = line.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            x.append(step)
            y.append(float(value))
    return x, y


def _smoothed(run: Run, key: str) -> tuple[list[int], list[float]]:
    x, y = _values(run, key)
    return x, list(smoothed(y).values())


def _times(values: Sequence[float], scale: float) -> list[float]:
    return [scale * value for value in values]
