"""Intervals and tests, against cases worked by hand and against scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from agent_rl.evaluation.statistics import (
    Interval,
    bootstrap_by_game,
    bootstrap_gap,
    bootstrap_iqm_curve,
    holm,
    interquartile_mean,
    interval_of_games,
    mcnemar,
    paired_bootstrap,
    paired_permutation,
    paired_seeds,
    welch,
    wilson_interval,
)

# 12 games with one to three repeats; the games' means are 1, 0, 1/2, 2/3, ...
GAMES = [
    [1],
    [0],
    [1, 0],
    [1, 1, 0],
    [0, 0, 1],
    [1, 1],
    [0, 0],
    [1],
    [1, 0],
    [0],
    [1, 1, 1],
    [0, 1],
]
OTHERS = [
    [0],
    [0],
    [1, 1],
    [0, 1, 0],
    [0, 0, 0],
    [1, 1],
    [0, 1],
    [0],
    [0, 0],
    [1],
    [1, 0, 1],
    [0, 0],
]
MEANS = np.array([1, 0, 1 / 2, 2 / 3, 1 / 3, 1, 0, 1, 1 / 2, 0, 1, 1 / 2])


def reference(
    data: tuple[np.ndarray, ...], statistic: object, **more: object
) -> tuple[float, float]:
    """scipy's own percentile bootstrap, called with another seed and other resamples than the
    product's.
    """
    result = stats.bootstrap(
        data,
        statistic,
        n_resamples=40_000,
        batch=1_000,
        method="percentile",
        rng=np.random.default_rng(77),
        **more,
    )
    return result.confidence_interval.low, result.confidence_interval.high


# Wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), z = 1.959964
        (5, 10, 0.236593, 0.763407),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
    ],
)
def test_wilson_by_hand(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-6)


def test_wilson_formula() -> None:
    z = 1.959963984540054
    for n in (1, 7, 134):
        for k in {0, 1, n // 2, n}:
            p = k / n
            middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
            want = ((middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n))
            assert wilson_interval(k, n) == pytest.approx(want, abs=1e-12)


def test_wilson_of_nothing_says_nothing() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)


# One set of games


def test_games_played_once_have_wilsons_interval_and_others_the_bootstraps() -> None:
    once = [[1], [0], [1], [0]]
    assert interval_of_games(once) == wilson_interval(2, 4) != bootstrap_by_game(once)
    assert interval_of_games(GAMES) == bootstrap_by_game(GAMES)
    assert interval_of_games([]) == (0.0, 1.0)


def test_bootstrap_of_two_games_by_hand() -> None:
    # Resamples of {0, 1}: both 0 with 1/4, both 1 with 1/4: each tail has more than 2.5 %.
    assert bootstrap_by_game([[0], [1]]) == (0.0, 1.0)


def test_bootstrap_of_five_games_by_hand() -> None:
    # One win in five: the number of wins in a resample is Binomial(5, 0.2). P(0) = 0.328 is over
    # 2.5 %; P(>= 4) = 0.0067 is under it and P(>= 3) = 0.0579 over: so 0 to 3/5.
    assert bootstrap_by_game([[1], [0], [0], [0], [0]]) == pytest.approx((0.0, 0.6))


def test_bootstrap_counts_a_game_by_its_mean() -> None:
    # One game lost 30 times over and nine won once: 9 of 10 games, not 9 of 39 episodes.
    lone = [[0] * 30] + [[1]] * 9
    low, high = bootstrap_by_game(lone)
    # The lost game's copies in a resample are Binomial(10, 0.1): P(>= 4) = 0.0128 < 2.5 % < P(>= 3)
    # = 0.0702.
    assert (low, high) == pytest.approx((0.7, 1.0))


def test_bootstrap_resamples_games_and_not_episodes() -> None:
    # Repeats that all agree add nothing: ten games of 20 equal repeats are ten draws and not 200.
    games = [[1.0]] * 6 + [[0.0]] * 4
    assert bootstrap_by_game([game * 20 for game in games]) == bootstrap_by_game(games)


def test_bootstrap_against_scipy() -> None:
    assert bootstrap_by_game(GAMES) == pytest.approx(reference((MEANS,), np.mean), abs=0.01)


def test_bootstrap_is_the_same_each_time() -> None:
    assert bootstrap_by_game(GAMES) == bootstrap_by_game(GAMES)


def test_bootstrap_where_every_game_is_alike_is_wilson_over_games() -> None:
    assert bootstrap_by_game([[1, 1, 1]] * 10) == wilson_interval(10, 10)
    assert bootstrap_by_game([[0, 0, 0]] * 10) == wilson_interval(0, 10)


def test_bootstrap_of_too_little() -> None:
    assert bootstrap_by_game([]) == (0.0, 1.0)
    assert bootstrap_by_game([[1, 0]]) == (0.0, 1.0)
    with pytest.raises(ValueError, match="game 1 has no repeats"):
        bootstrap_by_game([[1], []])


# Two sets of games


def test_gap_against_scipy() -> None:
    other = MEANS[:7] / 2
    want = reference(
        (MEANS, other), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), vectorized=True
    )
    assert bootstrap_gap(GAMES, [[float(m)] for m in other]) == pytest.approx(want, abs=0.01)


def test_gap_resamples_each_side_by_itself() -> None:
    # The same games on both sides: paired there is no spread at all, as two samples there is.
    assert paired_bootstrap(GAMES, GAMES) == (0.0, 0.0)
    low, high = bootstrap_gap(GAMES, GAMES)
    assert low < -0.2
    assert high > 0.2


def test_gap_has_the_sign_of_the_first() -> None:
    low, high = bootstrap_gap(
        [[1], [1], [1], [1], [1], [1], [1], [0]], [[0], [0], [0], [0], [0], [0], [0], [1]]
    )
    assert 0 < low < 0.75 < high


def test_gap_where_one_side_is_certain_by_hand() -> None:
    # Newcombe's table II, 10/10 against 0/20: 0.6791 to 1 by method 10.
    assert bootstrap_gap([[1]] * 10, [[0]] * 20) == pytest.approx((0.6791, 1.0), abs=1e-4)


def test_gap_of_no_games() -> None:
    assert bootstrap_gap([], [[1]]) == (-1.0, 1.0)
    assert bootstrap_gap([[1]], []) == (-1.0, 1.0)


def test_paired_by_hand() -> None:
    # Differences 1, 0, 0, 0, 0: as in five games with one win.
    a, b = [[1], [1], [0], [1, 1], [0]], [[0], [1], [0], [1], [0, 0]]
    assert paired_bootstrap(a, b) == pytest.approx((0.0, 0.6))
    assert paired_bootstrap(b, a) == pytest.approx((-0.6, 0.0))


def test_paired_against_scipy() -> None:
    right = np.array([np.mean(game) for game in OTHERS])
    want = reference(
        (MEANS, right), lambda x, y, axis: (x - y).mean(axis=axis), paired=True, vectorized=True
    )
    assert paired_bootstrap(GAMES, OTHERS) == pytest.approx(want, abs=0.01)


def test_paired_of_too_little() -> None:
    assert paired_bootstrap([], []) == (-1.0, 1.0)
    assert paired_bootstrap([[1]], [[0]]) == (-1.0, 1.0)
    with pytest.raises(ValueError, match="2 games against 1"):
        paired_bootstrap([[1], [0]], [[1]])


# McNemar


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),  # 2 * (1/2)
        (5, 0, 0.0625),  # 2 * (1/2)^5
        (0, 6, 0.03125),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
    ],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p)


# Permutation


def test_permutation_by_hand() -> None:
    # Differences 1, 1/2, 1/2, 0: of the 8 choices of signs, +++ and --- alone reach a sum of 2.
    a, b = [[1], [1, 0], [1], [1]], [[0], [0, 0], [0, 1], [1]]
    assert paired_permutation(a, b) == pytest.approx(2 / 8)
    assert paired_permutation(b, a) == pytest.approx(2 / 8)


@pytest.mark.parametrize(("only_a", "only_b"), [(5, 0), (8, 2), (3, 3), (9, 3)])
def test_permutation_of_single_repeats_is_mcnemar(only_a: int, only_b: int) -> None:
    a = [[1]] * only_a + [[0]] * only_b + [[1], [0]]
    b = [[0]] * only_a + [[1]] * only_b + [[1], [0]]
    assert paired_permutation(a, b) == pytest.approx(mcnemar(only_a, only_b))


def test_permutation_with_many_games_draws_the_signs() -> None:
    a, b = [[1]] * 30 + [[0]] * 14, [[0]] * 30 + [[1]] * 14
    assert paired_permutation(a, b) == pytest.approx(mcnemar(30, 14), abs=0.006)
    assert paired_permutation(a, b) == paired_permutation(a, b)


def test_permutation_of_too_little() -> None:
    assert paired_permutation([], []) == 1.0
    assert paired_permutation([[1], [1]], [[0], [1]]) == 1.0
    with pytest.raises(ValueError, match="1 games against 2"):
        paired_permutation([[1]], [[1], [0]])


def test_welch_by_hand() -> None:
    # Means 3 and 6; variances 1 and 4 of three: the error is sqrt(5 / 3), t = -2.324. Welch and
    # Satterthwaite's degrees of freedom: (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 50/17. The t of so
    # many degrees whose tail is 2.5 %: 3.219.
    found = welch([2, 3, 4], [4, 6, 8])
    assert found is not None
    interval, p = found
    error, freedom = math.sqrt(5 / 3), 50 / 17
    assert p == pytest.approx(2 * stats.t.sf(3 / error, freedom))
    assert (interval.low, interval.high) == pytest.approx(
        (-3 - 3.219 * error, -3 + 3.219 * error), abs=2e-3
    )


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [1.0, 2.0]), ([], [1.0, 2.0]), ([0.5, 0.5 + 1e-16], [0.7, 0.7 - 2e-16])]
)
def test_welch_of_too_little(a: list[float], b: list[float]) -> None:
    assert welch(a, b) is None
    assert welch(b, a) is None


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, then 0.03 * 2 = 0.06 (as large as the one before), 0.9.
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([0.01, 0.011]) == pytest.approx([0.02, 0.02])
    assert holm([]) == []


# Seeds


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean([100.0, 1.0, 2.0, 3.0]) == 2.5
    assert interquartile_mean([8.0, 1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 1000.0]) == (3 + 4 + 5 + 6) / 4
    # A quarter of 5 to 7 values is one value.
    assert interquartile_mean([9.0, 1.0, 2.0, 3.0, 4.0]) == 3.0


def test_interquartile_mean_of_few_is_the_mean() -> None:
    assert interquartile_mean([1.0, 2.0, 9.0]) == 4.0
    with pytest.raises(ValueError, match="no values"):
        interquartile_mean([])


def test_bootstrap_iqm_by_hand() -> None:
    # Three seeds: all of one value with 1/27 = 3.7 %, which is over 2.5 %.
    assert iqm_interval([0.2, 0.5, 0.9]) == pytest.approx((0.2, 0.9))
    assert iqm_interval([0.4, 0.4]) == pytest.approx((0.4, 0.4))


def test_bootstrap_iqm_against_scipy() -> None:
    values = [0.1, 0.4, 0.45, 0.5, 0.55, 0.6, 0.62, 3.0]
    want = reference(
        (np.array(values),), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), vectorized=True
    )
    got = iqm_interval(values)
    assert got == pytest.approx(want, abs=0.02)
    # The interval of the plain mean would reach 1.9: one seed in eight cannot pull the middle half.
    assert got[1] < 1.9


def test_bootstrap_iqm_curve_is_that_of_every_point() -> None:
    seeds = [[0.1, 5.0, 1.0], [0.4, 2.0, 1.0], [0.3, 9.0, 1.0], [0.9, 4.0, 1.0]]
    got = [(interval.low, interval.high) for interval in bootstrap_iqm_curve(seeds)]
    want = [iqm_interval([seed[point] for seed in seeds]) for point in range(3)]
    assert got == [pytest.approx(interval) for interval in want]


def test_bootstrap_iqm_of_one_seed() -> None:
    with pytest.raises(ValueError, match="1 seeds; an interval needs at least 2"):
        bootstrap_iqm_curve([[0.1, 0.2]])


def iqm_interval(values: list[float]) -> tuple[float, float]:
    """The interval of one number per seed."""
    (interval,) = bootstrap_iqm_curve([[value] for value in values])
    return interval.low, interval.high


def test_pairs_of_seeds_by_hand() -> None:
    # Mean 0.2, deviation 0.1; t with two degrees of freedom is 4.303.
    half = 4.303 * 0.1 / math.sqrt(3)
    found = paired_seeds([0.1, 0.2, 0.3])
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-4)
    assert paired_seeds([0.1]) is None
    assert paired_seeds([0.25, 0.25]) == Interval(0.25, 0.25)
