"""Numbers over seeds: a single number, or a curve over rollout steps. Pure values."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent_rl.evaluation.statistics import bootstrap_iqm_curve, interquartile_mean

WINDOW = 5
"""Training curves are running means over this many rollout steps: a step and those before it."""
SEEDS_FOR_INTERVAL = 5
"""With fewer seeds the range is given, and no interval: the bootstrap of three seeds would be
their range, too.
"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A number over seeds."""

    centre: float
    """The interquartile mean over seeds, which is the plain mean of fewer than four."""
    low: float
    """The lower end of the 95 % bootstrap interval; with fewer than `SEEDS_FOR_INTERVAL` seeds, the
    smallest value.
    """
    high: float
    """The upper end of the interval, or the largest value."""
    seeds: Mapping[int, float]
    """The number of each seed."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number over rollout steps and seeds. `centre`, `low` and `high` are as in `Spread`."""

    steps: Sequence[int]
    """The rollout steps that all seeds have."""
    centre: Sequence[float]
    """One value per rollout step."""
    low: Sequence[float]
    """One value per rollout step."""
    high: Sequence[float]
    """One value per rollout step."""
    seeds: Mapping[int, Mapping[int, float]]
    """All values of each seed, by rollout step."""


def over_seeds(by_seed: Mapping[int, float]) -> Spread:
    """Aggregate one number per seed. At least one seed is needed."""
    # A number is a curve with a single point.
    point = curve({seed: {0: value} for seed, value in by_seed.items()})
    return Spread(centre=point.centre[0], low=point.low[0], high=point.high[0], seeds=by_seed)


def curve(by_seed: Mapping[int, Mapping[int, float]]) -> Curve:
    """Aggregate each seed's values by rollout step; seeds without values are left out."""
    seeds = {seed: values for seed, values in by_seed.items() if values}
    steps = _common_steps(list(seeds.values()))
    rows = [[values[step] for step in steps] for values in seeds.values()]
    columns = list(zip(*rows, strict=True))
    if steps and len(rows) >= SEEDS_FOR_INTERVAL:
        intervals = bootstrap_iqm_curve(rows)
        low = [interval.low for interval in intervals]
        high = [interval.high for interval in intervals]
    else:
        low = [min(column) for column in columns]
        high = [max(column) for column in columns]
    centre = [interquartile_mean(column) for column in columns]
    return Curve(steps=steps, centre=centre, low=low, high=high, seeds=seeds)


def smoothed(values: Sequence[float | None]) -> dict[int, float]:
    """Running means by rollout step, from 1.

    Args:
        values: one per rollout step; None if the step has no value.

    Returns:
        For each step the mean over it and the steps before it, `WINDOW` in all (fewer at the
        beginning). Steps are left out if none of these has a value.
    """
    means = {}
    for step in range(1, len(values) + 1):
        within = [value for value in values[max(0, step - WINDOW) : step] if value is not None]
        if within:
            means[step] = statistics.fmean(within)
    return means


def from_step_to_step(values: Sequence[float]) -> float:
    """How much a metric moves from one rollout step to the next, without its slow change.

    The root mean square of the differences between neighbouring steps, over the square root of 2
    (von Neumann's mean square successive difference, 1941). For independent values it is their
    standard deviation. A slow change, as with a falling learning rate, hardly counts.
    """
    differences = [after - before for before, after in itertools.pairwise(values)]
    if not differences:
        return 0.0
    # hypot, because the square of a very large metric is an error.
    return math.hypot(*differences) / math.sqrt(2 * len(differences))


def _common_steps(curves: Sequence[Mapping[int, float]]) -> list[int]:
    """The rollout steps that all curves have, in order."""
    if not curves:
        return []
    return sorted(set(curves[0]).intersection(*curves[1:]))
