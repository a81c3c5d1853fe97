"""The only list of the mechanism's metrics: how an objective moves the policy, besides success.

The reader of runs needs their keys, the comparison their values, tables and pictures their titles.
`docs/metrics.md` explains the keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MetricsLine = Mapping[str, float]
"""One line of metrics.jsonl: the metrics of one rollout step, by their keys."""


@dataclass(frozen=True, kw_only=True)
class MechanismMetric:
    """One metric: its keys in metrics.jsonl, and its titles in the table and the picture."""

    name: str
    """Its name in comparison.json."""
    terms: Mapping[str, float]
    """The keys of metrics.jsonl that it is a sum of, each with its factor."""
    row: str = ""
    """The name of its row in the table; empty: not in the table."""
    panel: str = ""
    """The title of its panel in mechanism.png; empty: not in the picture."""
    panel_scale: float = 1.0
    """The panel shows values times this: 100 for percent."""
    is_of_look_ahead: bool = False
    """Whether it is 0 without `train.look_ahead`. A run without the keys has 0, and the row is in
    the table only if some run has another value."""

    def value(self, line: MetricsLine) -> float:
        """The metric of one rollout step."""
        if self.is_of_look_ahead:
            return sum(factor * line.get(key, 0.0) for key, factor in self.terms.items())
        return sum(factor * line[key] for key, factor in self.terms.items())


MECHANISM = (
    MechanismMetric(
        name="ratio_p01",
        terms={"learner/ratio_p01": 1},
        row="ratio, p01",
    ),
    MechanismMetric(
        name="ratio_p99",
        terms={"learner/ratio_p99": 1},
        row="ratio, p99",
    ),
    MechanismMetric(
        name="ratio_range",
        terms={"learner/ratio_p99": 1, "learner/ratio_p01": -1},
        row="ratio, p99 - p01",
        panel="ratio, 1st to 99th percentile",
    ),
    MechanismMetric(
        name="log_ratio_rms",
        terms={"learner/log_ratio_rms": 1},
        row="log-ratio, rms",
        panel="log-ratio, root mean square",
    ),
    MechanismMetric(
        name="clip_fraction_low",
        terms={"learner/clip_fraction_low": 1},
        row="clipped, A < 0",
    ),
    MechanismMetric(
        name="clip_fraction_high",
        terms={"learner/clip_fraction_high": 1},
        row="clipped, A > 0",
    ),
    MechanismMetric(
        name="clip_fraction",
        terms={"learner/clip_fraction_low": 1, "learner/clip_fraction_high": 1},
        panel="tokens clipped, both sides, %",
        panel_scale=100.0,
    ),
    MechanismMetric(
        name="grad_norm",
        terms={"learner/grad_norm": 1},
        row="gradient norm",
        panel="gradient norm",
    ),
    MechanismMetric(
        name="entropy",
        terms={"learner/entropy": 1},
        row="entropy",
        panel="entropy, nats a token",
    ),
    MechanismMetric(
        name="mismatch_abs_mean",
        terms={"learner/mismatch_abs_mean": 1},
        row="mismatch",
        panel="|log-prob, learner - sampler|, nats",
    ),
    MechanismMetric(
        name="staleness_mean",
        terms={"learner/staleness_mean": 1},
        row="staleness, mean",
        is_of_look_ahead=True,
    ),
    MechanismMetric(
        name="staleness_max",
        terms={"learner/staleness_max": 1},
        row="staleness, max",
        is_of_look_ahead=True,
    ),
)


def mechanism_keys(*, of_look_ahead: bool = False) -> list[str]:
    """The keys of metrics.jsonl that the mechanism needs, each once, in the list's order.

    Args:
        of_look_ahead: whether to return those that a run may lack instead.
    """
    keys: dict[str, None] = {}
    for metric in MECHANISM:
        if metric.is_of_look_ahead is of_look_ahead:
            keys.update(dict.fromkeys(metric.terms))
    return list(keys)
