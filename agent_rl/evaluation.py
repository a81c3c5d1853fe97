"""Success per task family with its uncertainty, from finished episodes."""

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from scipy.stats import binomtest

from agent_rl.display import console, say
from agent_rl.run_folder import write_trajectories
from rollouts import StopReason, Trajectory


@dataclass(frozen=True, kw_only=True)
class Score:
    """What `n` episodes came to. `success` is a fraction, `interval` its 95 % Wilson interval.

    `mean_turns` counts the turns of all episodes; `invalid_action_rate` is the share of turns whose action could not
    be parsed or was not admissible. Both are 0 where no episode was played.
    """

    n: int
    successes: int
    success: float
    interval: tuple[float, float]
    mean_turns: float
    invalid_action_rate: float

    @classmethod
    def of(cls, trajectories: Sequence[Trajectory]) -> "Score":
        n = len(trajectories)
        successes = sum(t.success for t in trajectories)
        turns = [len(t.turns) for t in trajectories]
        return cls(
            n=n,
            successes=successes,
            success=successes / n if n else 0.0,
            interval=wilson_interval(successes, n),
            mean_turns=statistics.fmean(turns) if turns else 0.0,
            invalid_action_rate=sum(t.invalid_actions for t in trajectories) / max(sum(turns), 1),
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """An evaluation: overall and by family, with what is needed to run it again.

    Episodes whose ending says nothing about the policy (`StopReason.trains` is false) are in no score; `failures`
    counts them by reason.
    """

    overall: Score
    families: dict[str, Score]
    stop_reasons: dict[str, int]
    failures: dict[str, int]
    setting: dict[str, Any]

    def write(self, path: str | Path) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def table(self, title: str = "") -> Table:
        table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        table.add_column("family", no_wrap=True)
        for name in ("n", "success %", "95 % interval", "turns", "invalid %"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, score in self.families.items():
            table.add_row(name, *_cells(score))
        table.add_section()
        table.add_row("all", *_cells(self.overall), style="bold")
        return table


def summarize(trajectories: Sequence[Trajectory], setting: dict[str, Any]) -> EvaluationReport:
    """Score finished episodes. `setting` is written beside the scores: model, split, temperature, seed."""
    scored = [t for t in trajectories if t.stop_reason.trains]
    families = sorted({t.task.family for t in trajectories})
    return EvaluationReport(
        overall=Score.of(scored),
        families={name: Score.of([t for t in scored if t.task.family == name]) for name in families},
        stop_reasons=_counts(t.stop_reason for t in scored),
        failures=_counts(t.stop_reason for t in trajectories if not t.stop_reason.trains),
        setting=setting,
    )


def present(
    report: EvaluationReport, trajectories: Sequence[Trajectory], *, title: str, episodes: Path, json: Path | None
) -> None:
    """Print the table, write the episodes to `episodes` and, where asked, the report to `json`."""
    write_trajectories(episodes, trajectories)
    console.print(report.table(title))
    if report.failures:
        say(f"not scored, as they say nothing about the policy: {report.failures}; see `error` in {episodes}")
        say(f"the first: {next(t.error or t.stop_reason.value for t in trajectories if not t.stop_reason.trains)}")
    if json:
        report.write(json)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) where nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def _counts(reasons: Any) -> dict[str, int]:
    counts: Counter[StopReason] = Counter(reasons)
    return {reason.value: count for reason, count in sorted(counts.items(), key=lambda item: item[0].value)}


def _cells(score: Score) -> tuple[str, ...]:
    low, high = score.interval
    return (
        str(score.n),
        f"{100 * score.success:.1f}",
        f"{100 * low:.1f} - {100 * high:.1f}",
        f"{score.mean_turns:.1f}",
        f"{100 * score.invalid_action_rate:.1f}",
    )
