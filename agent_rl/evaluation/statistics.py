"""Intervals and tests for success rates and seeds: pure functions, the same result every time.

The bootstraps resample games, each with all its repeats, because the repeats of one game are not
independent. They use the percentile method (Efron and Tibshirani 1993), `RESAMPLES` resamples and
a fixed seed. All intervals are 95 % intervals.
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
"""Values closer than this count as equal: equal means may differ in their last bits."""
_BATCH = 1_000
"""Resamples in memory at a time: 10,000 of the 3,553 training games at once would be 280 MB."""

Outcomes = Sequence[Sequence[float]]
"""The outcomes of each game's repeats, 0 or 1; a game counts by its mean, whatever its repeats."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    """Its lower end."""
    high: float
    """Its upper end."""


def interval_of_games(outcomes: Outcomes) -> tuple[float, float]:
    """The interval of the games' mean success: Wilson's if each game was played once, else the
    bootstrap by game.

    This is the one place that decides between the two. Wilson's interval needs independent trials,
    and repeats of one game are not independent.
    """
    if all(len(repeats) == 1 for repeats in outcomes):
        return wilson_interval(round(sum(game[0] for game in outcomes)), len(outcomes))
    return bootstrap_by_game(outcomes)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927); (0, 1) if `n` is 0."""
    if n == 0:
        return 0.0, 1.0
    interval = stats.binomtest(successes, n).proportion_ci(
        confidence_level=CONFIDENCE, method="wilson"
    )
    return float(interval.low), float(interval.high)


def bootstrap_by_game(outcomes: Outcomes) -> tuple[float, float]:
    """The bootstrap interval of the games' mean success, with games resampled.

    If every repeat of every game has the same outcome, resampling shows no spread at all. Then the
    interval is Wilson's, with each game as one trial. It is (0, 1) for no game, and for a single
    game whose repeats differ.

    Raises:
        ValueError: a game has no repeats.
    """
    means = _game_means(outcomes)
    outcome_of_all = _all_alike(means)
    if outcome_of_all is not None:
        return wilson_interval(round(outcome_of_all * len(means)), len(means))
    if len(means) < 2:
        return 0.0, 1.0
    return _percentile((means,), lambda x, axis: x.mean(axis=axis))


def bootstrap_gap(a: Outcomes, b: Outcomes) -> tuple[float, float]:
    """The interval of mean(a) - mean(b) over two different sets of games, such as seen and unseen.

    Each side is resampled by itself. If resampling shows no spread on a side (see
    `bootstrap_by_game`), Newcombe's square-and-add (1998, method 10) combines the intervals of the
    two sides. The interval is (-1, 1) if a side has no game.
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
    """The interval of mean(a) - mean(b) on the same games in the same order.

    A resample draws games, with both sides of each. The interval is (-1, 1) for fewer than two
    games. If the difference is the same in every game, the interval is that number.

    Raises:
        ValueError: the numbers of games differ.
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
    """The exact two-sided p of McNemar's test, from the games that only one side won.

    If both sides were equally good, each such game would go to either side with probability 1/2
    (binomial). p is 1 if there is no such game.
    """
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def paired_permutation(a: Outcomes, b: Outcomes) -> float:
    """The two-sided p of mean(a) = mean(b) on the same games in the same order, by permutation.

    If both sides were equally good, each game's difference could have the other sign as well. All
    choices of signs are tried, or `RESAMPLES` random ones if there are more. With one repeat per
    game this is McNemar's test.

    Raises:
        ValueError: the numbers of games differ.
    """
    left, right = _game_means(a), _game_means(b)
    if len(left) != len(right):
        raise ValueError(
            f"paired_permutation: {len(left)} games against {len(right)}; it needs the same games"
        )
    # A game without a difference has the same difference 0 with either sign.
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
    """Welch's t test (1947) of two sets of seeds, which may differ in their number.

    Args:
        a: one number per seed of the first side.
        b: one number per seed of the second side.

    Returns:
        The interval of mean(a) - mean(b) and the two-sided p of no difference. None with fewer than
        two seeds on a side, and if neither side has any spread.
    """
    if min(len(a), len(b)) < 2 or max(np.ptp(a), np.ptp(b)) < _NO_SPREAD:
        return None
    with warnings.catch_warnings():
        # scipy warns if one side has no spread; the test is still valid if the other side has some.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = stats.ttest_ind(a, b, equal_var=False)
    interval = result.confidence_interval(CONFIDENCE)
    return Interval(float(interval.low), float(interval.high)), float(result.pvalue)


def paired_seeds(differences: Sequence[float]) -> Interval | None:
    """The t interval of a mean difference, with one difference for each seed that both sides have.

    None with fewer than two seeds. Without any spread it is a point.
    """
    if len(differences) < 2:
        return None
    if np.ptp(differences) < _NO_SPREAD:
        return Interval(float(differences[0]), float(differences[0]))
    interval = stats.ttest_1samp(differences, 0.0).confidence_interval(CONFIDENCE)
    return Interval(float(interval.low), float(interval.high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for the number of tests (Holm 1979); returned in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    # The k-th smallest p (from 0) is multiplied by the number of tests that are left, n - k. The
    # running maximum keeps a larger p from getting a smaller adjusted value.
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean of the middle half of the values, as in rliable (Agarwal et al. 2021).

    A quarter of the values, rounded down, is cut off at each end: fewer than four values have their
    plain mean.

    Raises:
        ValueError: there are no values.
    """
    if not len(values):
        raise ValueError("interquartile_mean: no values")
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def bootstrap_iqm_curve(values: Sequence[Sequence[float]]) -> list[Interval]:
    """The bootstrap interval of the interquartile mean over seeds, at each point of a curve.

    Whole seeds are resampled. With few seeds the interval is too narrow: three seeds have only ten
    different resamples.

    Args:
        values: [seeds, points], one row per seed.

    Raises:
        ValueError: there are fewer than two seeds.
    """
    if len(values) < 2:
        raise ValueError(f"bootstrap_iqm_curve: {len(values)} seeds; an interval needs at least 2")
    lows, highs = _percentiles(
        (np.asarray(values, dtype=float),), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)
    )
    return [Interval(float(low), float(high)) for low, high in zip(lows, highs, strict=True)]


def _game_means(outcomes: Outcomes) -> np.ndarray[Any, np.dtype[np.float64]]:
    for index, repeats in enumerate(outcomes):
        if not len(repeats):
            raise ValueError(f"game {index} has no repeats; leave out a game that was not scored")
    return np.array([sum(repeats) / len(repeats) for repeats in outcomes], dtype=float)


def _all_alike(means: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    """0 or 1 if that is the mean of every game (0 for no game), else None."""
    if not len(means):
        return 0.0  # wilson_interval of 0 of 0 games is (0, 1)
    first = float(means[0])
    return first if first in (0.0, 1.0) and bool((means == first).all()) else None


def _percentile(data: tuple[Any, ...], statistic: Any) -> tuple[float, float]:
    """`_percentiles` of a statistic that is one number."""
    low, high = _percentiles(data, statistic)
    return float(low), float(high)


def _percentiles(data: tuple[Any, ...], statistic: Any) -> tuple[Any, Any]:
    """The bootstrap over the first axis of each of `data`; every other axis is kept."""
    # A fixed seed: the same episodes give the same report.
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
    # The error of a difference is the hypotenuse of the errors of its sides. Below a - b, a is too
    # high or b too low; above it, the other way round.
    below = math.hypot(a - a_interval[0], b_interval[1] - b)
    above = math.hypot(a_interval[1] - a, b - b_interval[0])
    return a - b - below, a - b + above
