"""The only list of what a comparison says about time: shares, idle parts, rates.

`docs/metrics.md` explains the keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from agent_rl.commands.compare.mechanism import MetricsLine

SECONDS = "time/seconds"
"""The time from a line of metrics to the next one, by which the means are weighted."""
_BETWEEN_STEPS = ("time/checkpoint_share", "time/evaluation_share")
"""Shares of that time that are no rollout step's. Runs of earlier versions leave them out of it."""


@dataclass(frozen=True, kw_only=True)
class TimeMetric:
    """One metric: its key in metrics.jsonl, and its column in the table."""

    name: str
    """Its name in comparison.json, and the head of its column."""
    key: str
    """The key of metrics.jsonl."""
    is_share: bool = True
    """Whether the table shows percent."""
    page_only: bool = False
    """Whether the terminal, which has less room, leaves the column out."""


TIMES = (
    TimeMetric(name="policy", key="time/policy_share"),
    TimeMetric(name="environment", key="time/env_share"),
    TimeMetric(name="slowest", key="time/slowest_share"),
    TimeMetric(name="learner", key="time/learner_share"),
    TimeMetric(name="sync", key="time/sync_share", page_only=True),
    TimeMetric(name="files", key="time/files_share", page_only=True),
    TimeMetric(name="checkpoint", key="time/checkpoint_share", page_only=True),
    TimeMetric(name="evaluation", key="time/evaluation_share", page_only=True),
    TimeMetric(name="other", key="time/other_share", page_only=True),
    TimeMetric(name="engine idle", key="engine/idle_share"),
    TimeMetric(name="learner idle", key="time/learner_idle_share"),
    TimeMetric(name="tokens/s", key="time/tokens_per_second", is_share=False),
    TimeMetric(name="prefix-cache hits", key="engine/prefix_cache_hits"),
)
"""The columns in their order. The first nine add up to 1."""


def mean_times(runs: Sequence[Sequence[MetricsLine]]) -> dict[str, float]:
    """The metrics of `TIMES` by name: the mean over time in each run, then the mean over runs.

    Empty if a line of some run lacks one, as those of earlier versions do, or has no time.

    Args:
        runs: the lines of metrics of each run.
    """
    if not all(_is_timed(line) for lines in runs for line in lines):
        return {}
    means = {}
    for metric in TIMES:
        means[metric.name] = fmean(_over_time(lines, metric.key) for lines in runs)
    return means


def seconds_of_step(line: MetricsLine) -> float:
    """The time of a line without the checkpoint and the evaluation before its rollout step."""
    between = sum(line.get(share, 0.0) for share in _BETWEEN_STEPS)
    return line[SECONDS] * (1.0 - between)


def _is_timed(line: Mapping[str, float]) -> bool:
    return line[SECONDS] > 0 and all(metric.key in line for metric in TIMES)


def _over_time(lines: Sequence[MetricsLine], key: str) -> float:
    seconds = sum(line[SECONDS] for line in lines)
    return sum(line[key] * line[SECONDS] for line in lines) / seconds
