"""Value iteration in worlds small enough to solve by hand."""

import pytest

from envs.worlds.value_iteration import Transitions, best_actions, steps_to_the_end

CORRIDOR: Transitions = {
    0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 1, 0.0, False)]},
    1: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 2, 0.0, False)]},
    2: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 3, 1.0, True)]},
    3: {0: [(1.0, 3, 0.0, True)], 1: [(1.0, 3, 0.0, True)]},
}
"""States 0 to 3 in a row: action 0 goes left, 1 goes right; reaching 3 pays 1."""


def test_the_best_way_leads_to_the_reward() -> None:
    best = best_actions(CORRIDOR)
    assert best == {0: 1, 1: 1, 2: 1, 3: 0}
    assert [steps_to_the_end(CORRIDOR, best, state) for state in (0, 1, 2)] == [3, 2, 1]


def test_a_short_way_is_better_than_a_long_one() -> None:
    world: Transitions = {
        0: {0: [(1.0, 1, 0.0, False)], 1: [(1.0, 2, 1.0, True)]},
        1: {0: [(1.0, 2, 1.0, True)]},
        2: {0: [(1.0, 2, 0.0, True)]},
    }
    # Right away: 1. By way of state 1: 0.99 * 1.
    assert best_actions(world)[0] == 1


@pytest.mark.parametrize(("safe_reward", "best"), [(0.49, 1), (0.51, 0)])
def test_chances_count(safe_reward: float, best: int) -> None:
    world: Transitions = {
        0: {0: [(1.0, 1, safe_reward, True)], 1: [(0.5, 1, 1.0, True), (0.5, 1, 0.0, True)]},
        1: {0: [(1.0, 1, 0.0, True)]},
    }
    assert best_actions(world)[0] == best


def test_the_first_of_equal_actions_is_best() -> None:
    world: Transitions = {0: {number: [(1.0, 0, 1.0, True)] for number in (2, 0, 1)}}
    assert best_actions(world) == {0: 0}


def test_a_way_without_an_end_is_an_error() -> None:
    with pytest.raises(AssertionError, match="do not end the episode"):
        steps_to_the_end(CORRIDOR, {0: 0}, 0)
