"""Intervals and tests for success rates and seeds: pure functions of numbers, the same result every
time.

A game is the unit that is drawn: the repeats of a game are not independent of each other, so the
bootstraps resample games, each with all its repeats (Efron and Tibshirani 1993, percentile method;
`RESAMPLES` of them, a fixed seed). Intervals are 95 % ones.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 10_000
CONFIDENCE = 0.95
_SEED = 0
_NO_SPREAD = 1e-9
"""Means of thirds that are equal may differ in their last bits."""
_BATCH = 1_000
"""Resamples in memory at a time: 10,000 of the 3,553 training games at once would be 280 MB."""

Outcomes = Sequence[Sequence[float]]
"""A sequence per game with its repeats' outcomes, 0 or 1; a game counts by its mean, however many
repeats it has.
"""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`; 95 % unless said."""

    low: float
    high: float


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927); (0, 1) where nothing was tried."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, n).proportion_ci(
        confidence_level=CONFIDENCE, method="wilson"
    )
    return float(interval.low), float(interval.high)


def bootstrap_by_game(outcomes: Outcomes) -> tuple[float, float]:
    """The interval of the games' mean success: games are resampled, each with all its repeats.

    Where all games are won in all repeats, or lost in all, resampling would show no spread at all:
    then it is Wilson's interval with each game as one trial. (0, 1) for no game, and for one whose
    repeats differ. ValueError for a game without repeats.
    """
    means = _game_means(outcomes)
    if (certain := _all_alike(means)) is not None:
        return wilson_interval(round(certain * len(means)), len(means))
    if len(means) < 2:
        return 0.0, 1.0
    return _percentile((means,), lambda x, axis: x.mean(axis=axis))


def bootstrap_gap(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    """The interval of mean(a) - mean(b) over two different sets of games (seen, unseen), each
    resampled by itself.

    Where resampling says nothing of a side (see `bootstrap_by_game`), the intervals of both sides
    are put together by Newcombe's square-and-add (1998, method 10). (-1, 1) where a side has no
    game.
    """
    left, right = _game_means(a), _game_means(b)
    if not len(left) or not len(right):
        return -1.0, 1.0
    if (
        min(len(left), len(right)) < 2
        or _all_alike(left) is not None
        or _all_alike(right) is not None
    ):
        return _square_and_add(
            float(left.mean()), bootstrap_by_game(a), float(right.mean()), bootstrap_by_game(b)
        )
    return _percentile((left, right), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis))


def paired_bootstrap(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    """The interval of mean(a) - mean(b) on the same games in the same order: games are resampled,
    both sides together.

    (-1, 1) for fewer than two games. Where the difference is the same in every game, the interval
    is that number: resampling cannot show what no game showed. ValueError where the numbers of
    games differ.
    """
    left, right = _game_means(a), _game_means(b)
    if len(left) != len(right):
        raise ValueError(
            f"paired_bootstrap: {len(left)} games against {len(right)}; it needs the same games"
        )
    if len(left) < 2:
        return -1.0, 1.0
    return _percentile((left - right,), lambda x, axis: x.mean(axis=axis))


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p of McNemar's test, from the games won by only one side; 1 where there
    are none.

    If both sides were alike, each such game would fall to either with probability 1/2 (binomial).
    """
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def paired_permutation(a: Outcomes, b: Outcomes) -> float:
    """The two-sided p of mean(a) = mean(b) on the same games in the same order, by permutation.

    If both sides were alike, each game's difference could as well have the other sign: all choices
    of signs are tried, or 10,000 of them where there are more. With one repeat a game this is
    McNemar's test. ValueError where the numbers of games differ.
    """
    left, right = _game_means(a), _game_means(b)
    if len(left) != len(right):
        raise ValueError(
            f"paired_permutation: {len(left)} games against {len(right)}; it needs the same games"
        )
    differ = left != right
    if differ.sum() < 2:
        return 1.0
    result = stats.permutation_test(
        (left[differ], right[differ]),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        rng=np.random.default_rng(_SEED),
    )
    return float(result.pvalue)


def welch(a: Sequence[float], b: Sequence[float]) -> tuple[Interval, float] | None:
    """The interval of mean(a) - mean(b) and the two-sided p of 0, by Welch's t test (1947) of two
    sets of seeds.

    The seeds of the sides need be neither the same nor as many. None where it cannot be told: fewer
    than two seeds on a side, or no spread within either.
    """
    if min(len(a), len(b)) < 2 or max(np.ptp(a), np.ptp(b)) < _NO_SPREAD:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # a side without any spread is fine beside one that has some
        result = stats.ttest_ind(a, b, equal_var=False)
    interval = result.confidence_interval(CONFIDENCE)
    return Interval(float(interval.low), float(interval.high)), float(result.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): what each p becomes when all of them were looked at, in the order
    given.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half, as in rliable (Agarwal et al. 2021); the plain mean of fewer
    than four values.

    A quarter of the values, rounded down, is cut off at each end. ValueError for no values.
    """
    if not len(values):
        raise ValueError("interquartile_mean: no values")
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def bootstrap_iqm(values: Sequence[float]) -> tuple[float, float]:
    """The interval of the interquartile mean over seeds, which are resampled. `values`: one per
    seed.

    With few seeds it is narrower than it ought to be: three seeds have only ten different
    resamples. ValueError for fewer than two values.
    """
    (interval,) = bootstrap_iqm_curve([[value] for value in values])
    return interval.low, interval.high


def bootstrap_iqm_curve(values: Sequence[Sequence[float]]) -> list[Interval]:
    """The same at every point of a curve: `values` [seeds, points], and whole seeds are resampled."""
    if len(values) < 2:
        raise ValueError(f"bootstrap_iqm: {len(values)} values; an interval needs two at least")
    low, high = _percentiles(
        (np.asarray(values, dtype=float),), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)
    )
    return [Interval(float(one), float(other)) for one, other in zip(low, high, strict=True)]


def _game_means(outcomes: Outcomes) -> np.ndarray[Any, np.dtype[np.float64]]:
    for index, repeats in enumerate(outcomes):
        if not len(repeats):
            raise ValueError(f"game {index} has no repeats; leave out a game that was not scored")
    return np.array([sum(repeats) / len(repeats) for repeats in outcomes], dtype=float)


def _all_alike(means: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """0 or 1 where every game is so (0 for no game), else None."""
    if not len(means):
        return 0.0
    first = float(means[0])
    return first if first in (0.0, 1.0) and bool((means == first).all()) else None


def _percentile(data: tuple[Any, ...], statistic: Any) -> tuple[float, float]:
    low, high = _percentiles(data, statistic)
    return float(low), float(high)


def _percentiles(data: tuple[Any, ...], statistic: Any) -> tuple[Any, Any]:
    """The bootstrap over the first axis of each of `data`; every other axis is kept."""
    result = stats.bootstrap(
        data,
        statistic,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        vectorized=True,
        axis=0,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    return result.confidence_interval.low, result.confidence_interval.high


def _square_and_add(
    a: float, a_interval: tuple[float, float], b: float, b_interval: tuple[float, float]
) -> tuple[float, float]:
    """The interval of a - b from those of a and b (Newcombe 1998, method 10)."""
    below = math.hypot(a - a_interval[0], b_interval[1] - b)
    above = math.hypot(a_interval[1] - a, b - b_interval[0])
    return a - b - below, a - b + above
