"""A run at a glance, for a notebook: its curves as small pictures, and its evaluations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_rl.config import Config, ConfigError
from agent_rl.display import interval, percent
from agent_rl.evaluation.report import EvaluationReport, read_report
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.metrics_file import read_metrics
from rollouts.rendering.notebook import Html, html_table

_CURVES = (
    ("rollout/success", ".1%"),
    ("rollout/return", ".2f"),
    ("rollout/turns", ".1f"),
    ("rollout/invalid_actions", ".1%"),
    ("learner/entropy", ".3f"),
    ("learner/log_ratio_rms", ".4f"),
    ("time/seconds", ".1f"),
)
"""The metrics that are drawn, with the formats of their values."""
_WIDTH, _HEIGHT, _EDGE = 160, 32, 3


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """How far a run went. `agent-rl report` and the metrics' file have the whole."""

    folder: Path
    """The run's folder."""
    planned: int
    """Rollout steps of the config."""
    metrics: Mapping[int, Mapping[str, float]]
    """The metrics of the rollout steps that are done, by step."""
    evaluations: Mapping[str, EvaluationReport]
    """The evaluations by the names of their files: those of the training first."""

    def _repr_html_(self) -> str:
        steps, tables = len(self.metrics), []
        rows = []
        for name, form in _CURVES:
            values = [line[name] for line in self.metrics.values() if name in line]
            if values:
                ends = format(values[0], form), format(values[-1], form)
                rows.append((name, Html(curve(values)), *ends))
        title = f"{self.folder}: {steps} of {self.planned} rollout steps"
        tables.append(html_table(title, ("metric", "", "first", "last"), rows))
        scores = []
        for name, report in self.evaluations.items():
            for split, part in report.splits.items():
                score = part.overall
                ends = percent(score.success), interval(score.interval)
                scores.append((name, split, str(score.n), *ends))
        if scores:
            head = ("evaluation", "split", "n", "success %", "95 % interval")
            tables.append(html_table("Evaluations", head, scores, texts=(0, 1)))
        return "\n".join(tables)


def summary_of(config: Config) -> TrainingSummary:
    """Read the summary of a run, which may not have begun, or still go on."""
    run = RunLayout(Path(config.run_folder))
    paths = [*run.train.reports().values(), *sorted(run.evaluations.glob("*.json"))]
    evaluations = {}
    for path in paths:
        try:
            evaluations[path.stem] = read_report(path)
        except ConfigError:
            continue  # of an earlier version; `agent-rl compare` says so
    return TrainingSummary(
        folder=run.folder,
        planned=config.train.rollout_steps,
        metrics=read_metrics(run.train.metrics_file),
        evaluations=evaluations,
    )


def curve(values: Sequence[float]) -> str:
    """A small SVG picture of numbers in a line, in the colour of the text around it.

    Numbers that are not finite are left out.
    """
    finite = [(place, value) for place, value in enumerate(values) if math.isfinite(value)]
    if not finite:
        return ""
    low = min(value for _, value in finite)
    spread = max(value for _, value in finite) - low
    points = []
    for place, value in finite:
        share = (value - low) / spread if spread else 0.5
        x = _EDGE + place * (_WIDTH - 2 * _EDGE) / max(len(values) - 1, 1)
        y = _HEIGHT - _EDGE - share * (_HEIGHT - 2 * _EDGE)
        points.append(f"{x:.1f},{y:.1f}")
    last_x, last_y = points[-1].split(",")
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">'
        f"<title>{len(values)} values from {low:.4g} to {low + spread:.4g}</title>"
        f'<polyline points="{" ".join(points)}" fill="none" stroke="currentColor"/>'
        f'<circle cx="{last_x}" cy="{last_y}" r="2" fill="currentColor"/></svg>'
    )
