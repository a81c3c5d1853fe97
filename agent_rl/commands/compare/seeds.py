"""Numbers over seeds: one number each, or a curve over rollout steps. Pure values."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent_rl.evaluation.statistics import bootstrap_iqm_curve, interquartile_mean

WINDOW = 5
"""Curves of training are running means over so many rollout steps: a step and those before it."""
SEEDS_FOR_INTERVAL = 5
"""With fewer seeds there is no interval, and their range is given: the bootstrap of three is their
range, too.
"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A number over seeds: `seeds` has each seed's own.

    `centre` is their interquartile mean, which is the mean of fewer than four. `low` to `high` is
    its 95 % bootstrap interval; with fewer than `SEEDS_FOR_INTERVAL` seeds, from the least to the
    greatest.
    """

    centre: float
    low: float
    high: float
    seeds: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number over rollout steps. `centre`, `low` and `high` are as in `Spread`, at the `steps`
    that all seeds have; `seeds` has each seed's own steps and values.
    """

    steps: Sequence[int]
    centre: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    seeds: Mapping[int, Mapping[int, float]]


def spread(by_seed: Mapping[int, float]) -> Spread:
    """Aggregate a number per seed; there must be one at least."""
    one = curve({seed: {0: value} for seed, value in by_seed.items()})
    return Spread(centre=one.centre[0], low=one.low[0], high=one.high[0], seeds=by_seed)


def curve(by_seed: Mapping[int, Mapping[int, float]]) -> Curve:
    """Aggregate each seed's values by rollout step; seeds without any are left out."""
    having = {seed: values for seed, values in by_seed.items() if values}
    steps = sorted(set.intersection(*(set(values) for values in having.values()))) if having else []
    rows = [[values[step] for step in steps] for values in having.values()]
    columns = list(zip(*rows, strict=True))
    low, high = [min(column) for column in columns], [max(column) for column in columns]
    if steps and len(rows) >= SEEDS_FOR_INTERVAL:
        intervals = bootstrap_iqm_curve(rows)
        low, high = [one.low for one in intervals], [one.high for one in intervals]
    return Curve(
        steps=steps,
        centre=[interquartile_mean(column) for column in columns],
        low=low,
        high=high,
        seeds=having,
    )


def smoothed(values: Sequence[float]) -> dict[int, float]:
    """By rollout step, from 1: the mean over a step and those before it, `WINDOW` in all (fewer at
    the beginning).
    """
    return {
        step: statistics.fmean(values[max(0, step - WINDOW) : step])
        for step in range(1, len(values) + 1)
    }
