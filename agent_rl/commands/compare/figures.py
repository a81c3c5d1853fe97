"""The pictures of a comparison (PNG): learning curves, and the mechanism over training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.commands.compare.comparison import Comparison
from agent_rl.commands.compare.seeds import WINDOW, Curve

PANELS = {
    "log_ratio_rms": "log-ratio, root mean square",
    "ratio_range": "ratio, 1st to 99th percentile",
    "clip_fraction": "tokens clipped, both sides, %",
    "grad_norm": "gradient norm",
    "entropy": "entropy, nats a token",
    "mismatch_abs_mean": "|log-prob, learner - sampler|, nats",
}
_COLOURS = ("#0b5fa5", "#c8501e", "#3a8a3a", "#8a4fa3", "#b08900", "#555555", "#c2457f", "#2a9d9d")
_DASHES = ("-", "--", "-.", ":")
_WIDE = 20.0
"""A panel whose values lie farther apart than by this factor has a logarithmic scale."""


def draw_curves(comparison: Comparison, path: Path) -> None:
    """Success in training, and held out on each split, in per cent."""
    training = {variant.label: variant.training for variant in comparison.variants}
    panels = [(f"success in training, % (mean of {WINDOW} steps)", training)]
    for split in comparison.splits:
        panels.append(
            (
                f"held-out success, {split}, %",
                {v.label: v.held_out[split] for v in comparison.variants},
            )
        )
    figure, axes = _figure(rows=1, columns=len(panels), width=5.4, height=4.4)
    for (title, curves), panel in zip(panels, axes, strict=True):
        _draw(panel, title, curves, scale=100.0, points=curves is not training)
        panel.set_ylim(bottom=max(0.0, panel.get_ylim()[0]), top=min(100.0, panel.get_ylim()[1]))
        panel.set_xlim(
            0, 1.03 * max(run.steps for variant in comparison.variants for run in variant.runs)
        )
        panel.set_xlabel("rollout step")
    _finish(figure, axes, path)


def draw_mechanism(comparison: Comparison, path: Path) -> None:
    """Spread of the ratios, clip fractions, gradient norm, entropy and mismatch over training."""
    figure, axes = _figure(rows=2, columns=3, width=4.4, height=3.3)
    for (name, title), panel in zip(PANELS.items(), axes, strict=True):
        curves = {variant.label: variant.mechanism_curves[name] for variant in comparison.variants}
        _draw(panel, title, curves, scale=100.0 if name == "clip_fraction" else 1.0)
        _choose_scale(panel, list(curves.values()))
    for panel in axes[3:]:
        panel.set_xlabel("rollout step")
    _finish(figure, axes, path)


def _figure(*, rows: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [panel for row in axes for panel in row]


def _draw(
    panel: Any, title: str, curves: Mapping[str, Curve], *, scale: float, points: bool = False
) -> None:
    """A thick line with its band per variant, and a thin line per seed; `points` marks each value."""
    for number, (label, curve) in enumerate(curves.items()):
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
        marker = "o" if points else None
        if len(curve.seeds) > 1:
            for values in curve.seeds.values():
                ys = [scale * value for value in values.values()]
                panel.plot(
                    list(values),
                    ys,
                    color=colour,
                    linewidth=0.7,
                    alpha=0.45,
                    marker=marker,
                    markersize=2.0,
                )
            low, high = (
                [scale * value for value in curve.low],
                [scale * value for value in curve.high],
            )
            panel.fill_between(curve.steps, low, high, color=colour, alpha=0.13, linewidth=0)
        centre = [scale * value for value in curve.centre]
        panel.plot(
            curve.steps,
            centre,
            color=colour,
            linestyle=dash,
            linewidth=2.2,
            label=label,
            marker=marker,
            markersize=4.0,
        )
    panel.set_title(title, fontsize=10.5)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def _choose_scale(panel: Any, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    centres = [value for curve in curves for value in curve.centre]
    if centres and min(centres) > 0 and max(centres) > _WIDE * min(centres):
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.yaxis.set_minor_locator(NullLocator())


def _finish(figure: Any, axes: Sequence[Any], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(4, len(labels)),
        fontsize=9.5,
        frameon=False,
    )
    FigureCanvasAgg(figure)
    # Without the version of the library in it, the file is the same wherever the picture is.
    figure.savefig(path, dpi=110, format="png", metadata={"Software": None})
