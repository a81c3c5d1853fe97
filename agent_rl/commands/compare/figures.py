"""The pictures of a comparison (PNG): learning curves, and the mechanism over training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.comparison import Comparison
from agent_rl.commands.compare.mechanism import MECHANISM, MechanismMetric
from agent_rl.commands.compare.seeds import WINDOW, Curve

_COLOURS = ("#0b5fa5", "#c8501e", "#3a8a3a", "#8a4fa3", "#b08900", "#555555", "#c2457f", "#2a9d9d")
_DASHES = ("-", "--", "-.", ":")
_LOG_SCALE_FROM = 20.0
"""A panel gets a logarithmic scale if its largest value is this many times its smallest."""
PANELS_IN_A_ROW = 3
"""Panels in a row of mechanism.png."""


def draw_curves(comparison: Comparison, path: Path) -> None:
    """Draw success in training, and held-out success on each split, in percent."""
    variants = comparison.variants
    training = {variant.label: variant.training for variant in variants}
    panels = [(f"success in training, % (mean of {WINDOW} steps)", training)]
    for split in comparison.splits:
        held_out = {variant.label: variant.held_out[split] for variant in variants}
        panels.append((f"held-out success, {split}, %", held_out))
    longest = max(run.steps for variant in variants for run in variant.runs)
    figure, axes = new_figure(rows=1, columns=len(panels), width=5.4, height=4.4)
    for (title, curves), panel in zip(panels, axes, strict=True):
        # Evaluations are few: their points are marked.
        draw_panel(panel, title, curves, scale=100.0, points=curves is not training)
        bottom, top = panel.get_ylim()
        panel.set_ylim(bottom=max(0.0, bottom), top=min(100.0, top))
        panel.set_xlim(0, 1.03 * longest)
        panel.set_xlabel("rollout step")
    finish_figure(figure, axes, path)


def draw_mechanism(comparison: Comparison, path: Path) -> None:
    """Draw the metrics of `MECHANISM` that have a panel and that some run has, over training."""
    panels: list[tuple[MechanismMetric, dict[str, Curve]]] = []
    for metric in MECHANISM:
        curves = {}
        for variant in comparison.variants:
            if metric.name in variant.mechanism_curves:
                curves[variant.label] = variant.mechanism_curves[metric.name]
        if metric.panel and curves:
            panels.append((metric, curves))
    rows = math.ceil(len(panels) / PANELS_IN_A_ROW)
    figure, axes = new_figure(rows=rows, columns=PANELS_IN_A_ROW, width=4.4, height=3.3)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    colours = {variant.label: number for number, variant in enumerate(comparison.variants)}
    for (metric, curves), panel in zip(panels, axes, strict=False):
        draw_panel(panel, metric.panel, curves, scale=metric.panel_scale, numbers=colours)
        _choose_scale(panel, list(curves.values()))
    for panel in axes[max(len(panels) - PANELS_IN_A_ROW, 0) : len(panels)]:
        panel.set_xlabel("rollout step")
    finish_figure(figure, axes, path)


def new_figure(*, rows: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure and its panels, row by row; `width` and `height` are a panel's, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def draw_panel(
    panel: Any,
    title: str,
    curves: Mapping[str, Curve],
    *,
    scale: float,
    points: bool = False,
    numbers: Mapping[str, int] | None = None,
) -> None:
    """Draw the curve of each variant: a thick line with its band, and a thin line per seed.

    Args:
        panel: matplotlib's axes.
        title: the text above it.
        curves: by label.
        scale: values are multiplied by this.
        points: whether to mark each value.
        numbers: which colour each label has; by default, their order.
    """
    marker = "o" if points else None
    for place, (label, curve) in enumerate(curves.items()):
        number = numbers[label] if numbers else place
        colour = _COLOURS[number % len(_COLOURS)]
        # The second time around, each colour has another dash.
        dash = _DASHES[(number + number // len(_COLOURS)) % len(_DASHES)]
        if len(curve.seeds) > 1:
            thin = {"linewidth": 0.7, "alpha": 0.45, "marker": marker, "markersize": 2.0}
            for values in curve.seeds.values():
                panel.plot(list(values), _scaled(values.values(), scale), color=colour, **thin)
            low, high = _scaled(curve.low, scale), _scaled(curve.high, scale)
            panel.fill_between(curve.steps, low, high, color=colour, alpha=0.13, linewidth=0)
        thick = {"linewidth": 2.2, "linestyle": dash, "marker": marker, "markersize": 4.0}
        panel.plot(curve.steps, _scaled(curve.centre, scale), color=colour, label=label, **thick)
    panel.set_title(title, fontsize=10.5)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _scaled(values: Iterable[float], scale: float) -> list[float]:
    return [scale * value for value in values]


def _choose_scale(panel: Any, curves: Sequence[Curve]) -> None:
    """Give a panel a logarithmic scale if its values are positive and far apart."""
    from matplotlib.ticker import LogLocator, NullLocator

    centres = [value for curve in curves for value in curve.centre]
    if centres and min(centres) > 0 and max(centres) > _LOG_SCALE_FROM * min(centres):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.yaxis.set_minor_locator(NullLocator())


def finish_figure(figure: Any, axes: Sequence[Any], path: Path) -> None:
    """Add the legend and write the picture."""
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, len(labels)),
        fontsize=9.5,
        frameon=False,
    )
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a picture (PNG), the same file everywhere for the same figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    # Without matplotlib's version in the file.
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
