"""What `agent-rl bench replay` found: medians over orders of the data, tables and a picture."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from agent_rl.commands.compare.comparison import OVERALL, FamilyScore, scores
from agent_rl.commands.compare.mechanism import MECHANISM
from agent_rl.display import console, interval, percent, say
from agent_rl.evaluation.scores import GameScore
from agent_rl.files import write_json


@dataclass(frozen=True, kw_only=True)
class ReplayedRun:
    """One variant in one order of the data."""

    arm: str
    """The variant."""
    seed: int
    """The order."""
    metrics: Mapping[str, float]
    """Those of the update, with `entropy_change` and `cosine_at_start`; empty after an error."""
    games: Sequence[GameScore] = ()
    """The evaluation's; empty without one."""
    error: str = ""
    """Why the run ended: a loss or gradient that is not finite."""


@dataclass(frozen=True, kw_only=True)
class MedianOfSeeds:
    """A number over orders of the data."""

    median: float
    """The median."""
    low: float
    """The smallest."""
    high: float
    """The largest."""


@dataclass(frozen=True, kw_only=True)
class ReplayResults:
    """All runs of a replay."""

    source: str
    """The policy that they begin with."""
    episodes: int
    """Of the batch."""
    groups: int
    """Of the batch."""
    optimizer_steps: int
    """On the batch."""
    start: Sequence[GameScore]
    """The evaluation of the policy that they begin with; empty without one."""
    runs: Sequence[ReplayedRun] = field(default_factory=list)
    """Variant by variant, then by seed."""

    @property
    def arms(self) -> dict[str, list[ReplayedRun]]:
        """The runs of each variant."""
        arms: dict[str, list[ReplayedRun]] = {}
        for run in self.runs:
            arms.setdefault(run.arm, []).append(run)
        return arms

    def over_orders(self, arm: str, name: str) -> MedianOfSeeds | None:
        """A column of a variant; None if no run has it."""
        values = [value for run in self.arms[arm] if (value := _value(run, name)) is not None]
        if not values:
            return None
        return MedianOfSeeds(median=statistics.median(values), low=min(values), high=max(values))

    def success(self, arm: str) -> FamilyScore | None:
        """A variant's success, over its seeds; None without an evaluation."""
        by_seed = {}
        for run in self.arms[arm]:
            if run.games:
                by_seed[run.seed] = {game.id: game for game in run.games}
        return scores(by_seed)[OVERALL] if by_seed else None

    def start_success(self) -> FamilyScore | None:
        """That of the start."""
        games = {game.id: game for game in self.start}
        return scores({0: games})[OVERALL] if games else None


_OWN = {"entropy_change": "entropy,\nchange", "cosine_at_start": "cosine,\nat start"}
"""The metrics of a replay that a run's metrics lack, and their heads."""
_TABLES = {
    "Log-ratios": {"log_ratio_rms": "rms", "kl_old": "KL"},
    "Tails of the log-ratios": {
        "gains_p001": "A > 0, p0.1",
        "gains_p999": "A > 0, p99.9",
        "losses_p001": "A < 0, p0.1",
        "losses_p999": "A < 0, p99.9",
    },
    "Weights": {
        "effective_share": "effective\nshare",
        "top_share": "top\nshare",
        "clip_fraction_high": "clipped,\nA > 0",
        "clip_fraction_low": "clipped,\nA < 0",
    },
    "Gradients": {
        "grad_norm": "norm",
        "grad_norm_spread": "largest /\nmedian",
        "cosine_at_start": _OWN["cosine_at_start"],
        "probe_cosine": "cosine,\nmean",
    },
    "Outcome": {"entropy": "entropy,\nmean", "entropy_change": _OWN["entropy_change"]},
}
"""The tables: by title, the heads of metrics by their names, in `MECHANISM` or `_OWN`. Each is as
wide as a terminal at most."""
_PANELS = {
    "log_ratio_rms": "log-ratio, root mean square",
    "effective_share": "effective share",
    "top_share": "weight of the top 1 % of the tokens",
    "grad_norm_spread": "gradient norm, largest / median",
    "entropy_change": "entropy, change in nats",
    "probe_cosine": "cosine with GRPO's gradient, mean",
}
"""The panels of the picture."""


def show_replay(results: ReplayResults, *, png_file: Path | None, json_file: Path | None) -> None:
    """Print the tables, and write the files that are named."""
    for table in replay_tables(results):
        console.print(table)
        console.print()
    for run in results.runs:
        if run.error:
            say(f"note: {run.arm}, seed {run.seed}, ended early: {run.error}")
    if png_file is not None:
        draw_replay(results, png_file)
        say(f"picture: {png_file}")
    if json_file is not None:
        write_json(json_file, replay_record(results))
        say(f"written to {json_file}")


def replay_tables(results: ReplayResults) -> list[Table]:
    """The tables, with a row for each variant: the median over seeds, and beneath it the range."""
    tables = []
    for title, heads in _TABLES.items():
        titled = f"{title}: medians over seeds, and their range"
        table = Table(title=titled, title_justify="left", box=None)
        table.add_column("", no_wrap=True)
        for head in heads.values():
            table.add_column(head, justify="right", no_wrap=True)
        has_success = title == list(_TABLES)[-1] and bool(results.start)
        if has_success:
            table.add_column("success, %\n(95 % by game)", justify="right", no_wrap=True)
        for arm in results.arms:
            cells = [_cell(results.over_orders(arm, name), _digits(name)) for name in heads]
            if has_success:
                cells.append(_score(results.success(arm)))
            table.add_row(arm, *cells)
        if has_success:
            table.add_row("start", *[""] * len(heads), _score(results.start_success()))
        tables.append(table)
    return tables


def replay_record(results: ReplayResults) -> dict[str, Any]:
    """All numbers, for a file."""
    arms: dict[str, Any] = {}
    for arm in results.arms:
        of_arm: dict[str, Any] = {}
        for name in (*(metric.name for metric in MECHANISM), *_OWN):
            found = results.over_orders(arm, name)
            if found is not None:
                of_arm[name] = asdict(found)
        success = results.success(arm)
        of_arm["success"] = None if success is None else asdict(success)
        arms[arm] = of_arm
    start = results.start_success()
    return {
        "source": results.source,
        "episodes": results.episodes,
        "groups": results.groups,
        "optimizer_steps": results.optimizer_steps,
        "start": None if start is None else asdict(start),
        "variants": arms,
        "runs": [
            {"variant": run.arm, "seed": run.seed, "error": run.error, "metrics": run.metrics}
            for run in results.runs
        ],
    }


def draw_replay(results: ReplayResults, path: Path) -> None:
    """Draw a panel for each metric of `_PANELS`: a row for each variant, a dot for each seed."""
    from agent_rl.commands.compare.figures import PANELS_IN_A_ROW, new_figure, save_figure

    arms = list(results.arms)
    rows = -(-len(_PANELS) // PANELS_IN_A_ROW)
    height = 1.2 + 0.28 * len(arms)
    figure, axes = new_figure(rows=rows, columns=PANELS_IN_A_ROW, width=4.4, height=height)
    for (name, title), panel in zip(_PANELS.items(), axes, strict=True):
        for place, arm in enumerate(arms):
            values = [
                value for run in results.arms[arm] if (value := _value(run, name)) is not None
            ]
            panel.plot(values, [place] * len(values), "o", color="#0b5fa5", alpha=0.4, markersize=4)
            found = results.over_orders(arm, name)
            if found is not None:
                panel.plot([found.median], [place], "|", color="#c8501e", markersize=14)
        panel.set_title(title, fontsize=10.5)
        panel.set_yticks(range(len(arms)), arms, fontsize=8)
        panel.set_ylim(len(arms) - 0.5, -0.5)
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
    save_figure(figure, path)


def _value(run: ReplayedRun, name: str) -> float | None:
    """A metric of a run, by its name in `MECHANISM` or `_OWN`; None if it has none."""
    if name in _OWN or not run.metrics:
        return run.metrics.get(name)
    line = {f"learner/{key}": value for key, value in run.metrics.items()}
    return next(metric for metric in MECHANISM if metric.name == name).value(line)


def _digits(name: str) -> int:
    if "cosine" in name:
        return 4
    return next((metric.digits for metric in MECHANISM if metric.name == name), 3)


def _cell(found: MedianOfSeeds | None, digits: int) -> str:
    if found is None:
        return ""
    median = f"{found.median:.{digits}g}"
    low, high = (f"{end:.{digits - 1}g}" for end in (found.low, found.high))
    return median if found.low == found.high else f"{median}\n{low} to {high}"


def _score(score: FamilyScore | None) -> str:
    if score is None:
        return ""
    return f"{percent(score.success)}\n({interval(score.interval)})"
