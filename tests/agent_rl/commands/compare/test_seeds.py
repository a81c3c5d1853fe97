"""Numbers and curves over seeds, by hand."""

import pytest

from agent_rl.commands.compare.seeds import curve, from_step_to_step, over_seeds, smoothed
from agent_rl.evaluation.statistics import bootstrap_iqm_curve


def test_few_seeds_have_their_mean_and_range() -> None:
    one = over_seeds({4: 0.5})
    assert (one.centre, one.low, one.high, one.seeds) == (0.5, 0.5, 0.5, {4: 0.5})
    two = over_seeds({0: 0.2, 1: 0.6})
    assert (two.centre, two.low, two.high) == pytest.approx((0.4, 0.2, 0.6))


def test_more_seeds_have_their_interquartile_mean_and_interval() -> None:
    values = {0: 0.1, 1: 0.2, 2: 0.4, 3: 9.0, 4: 0.3}
    found = over_seeds(values)
    assert found.centre == pytest.approx((0.2 + 0.3 + 0.4) / 3)
    (interval,) = bootstrap_iqm_curve([[value] for value in values.values()])
    assert (found.low, found.high) == (interval.low, interval.high)
    assert found.high < 9.0  # the range would reach it


def test_a_curve_ends_where_its_shortest_seed_ends() -> None:
    found = curve({0: {1: 0.0, 2: 0.2, 3: 0.4}, 1: {1: 1.0, 2: 0.6}})
    assert found.steps == [1, 2]
    assert found.centre == pytest.approx([0.5, 0.4])
    assert (found.low, found.high) == ([0.0, 0.2], [1.0, 0.6])
    assert found.seeds[0] == {1: 0.0, 2: 0.2, 3: 0.4}


def test_seeds_without_values_are_not_in_a_curve() -> None:
    found = curve({0: {10: 0.5}, 1: {}})
    assert (found.steps, found.centre, list(found.seeds)) == ([10], [0.5], [0])
    assert curve({0: {}}).steps == []


def test_a_running_mean_looks_back() -> None:
    # The window is 5.
    assert smoothed([1.0, 3.0, 5.0, 7.0, 9.0, 21.0]) == pytest.approx(
        {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 9}
    )


def test_the_deviation_of_very_large_metrics_is_no_error() -> None:
    # Differences of 2 and -2: the root of (4 + 4) / 2, over the root of 2.
    assert from_step_to_step([0.0, 2.0, 0.0]) == pytest.approx(2**0.5)
    assert from_step_to_step([1e200, 0.0]) == pytest.approx(1e200 / 2**0.5)


def test_steps_without_a_value_are_in_no_running_mean() -> None:
    assert smoothed([None, 0.2, None, 0.4]) == pytest.approx({2: 0.2, 3: 0.2, 4: 0.3})
