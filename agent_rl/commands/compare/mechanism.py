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
    digits: int = 3
    """The significant digits that the table shows."""
    is_optional: bool = False
    """Whether a line may lack the keys: one of an earlier version, or without a probe. The table
    and the picture then leave out the runs without any value."""
    absent: float | None = None
    """The value without the keys, None if there is none. The table leaves the row out if no run
    has another value."""

    def value(self, line: MetricsLine) -> float | None:
        """The metric of one rollout step; None if the line lacks it."""
        if self.is_optional and not all(key in line for key in self.terms):
            return self.absent
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
        name="gains_p001",
        terms={"learner/gains/log_ratio_p001": 1},
        row="log-ratio, A > 0, p0.1",
        is_optional=True,
    ),
    MechanismMetric(
        name="gains_p999",
        terms={"learner/gains/log_ratio_p999": 1},
        row="log-ratio, A > 0, p99.9",
        is_optional=True,
    ),
    MechanismMetric(
        name="losses_p001",
        terms={"learner/losses/log_ratio_p001": 1},
        row="log-ratio, A < 0, p0.1",
        is_optional=True,
    ),
    MechanismMetric(
        name="losses_p999",
        terms={"learner/losses/log_ratio_p999": 1},
        row="log-ratio, A < 0, p99.9",
        is_optional=True,
    ),
    MechanismMetric(
        name="effective_share",
        terms={"learner/effective_share": 1},
        row="effective share",
        panel="effective share of the tokens, %",
        panel_scale=100.0,
        is_optional=True,
    ),
    MechanismMetric(
        name="top_share",
        terms={"learner/top_share": 1},
        row="top share",
        panel="weight of the top 1 % of the tokens, %",
        panel_scale=100.0,
        is_optional=True,
    ),
    MechanismMetric(
        name="kl_old",
        terms={"learner/kl_old": 1},
        row="KL, old to new",
        is_optional=True,
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
        name="grad_norm_spread",
        terms={"learner/grad_norm_spread": 1},
        row="gradient norm, largest / median",
        is_optional=True,
    ),
    # The cosine of published comparisons differs from 1 in the fourth digit.
    MechanismMetric(
        name="probe_cosine",
        terms={"learner/probe_cosine": 1},
        row="cosine with the probe",
        panel="cosine with the probe's gradient",
        digits=5,
        is_optional=True,
    ),
    MechanismMetric(
        name="probe_norm_ratio",
        terms={"learner/probe_norm_ratio": 1},
        row="norm, probe / trained",
        is_optional=True,
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
        is_optional=True,
        absent=0.0,
    ),
    MechanismMetric(
        name="staleness_max",
        terms={"learner/staleness_max": 1},
        row="staleness, max",
        is_optional=True,
        absent=0.0,
    ),
)


def mechanism_keys(*, optional: bool = False) -> list[str]:
    """The keys of metrics.jsonl that the mechanism needs, each once, in the list's order.

    Args:
        optional: whether to return those that a line may lack instead.
    """
    keys: dict[str, None] = {}
    for metric in MECHANISM:
        if metric.is_optional is optional:
            keys.update(dict.fromkeys(metric.terms))
    return list(keys)
