from collections.abc import Sequence

import pytest
import torch

from agent_rl.objective.advantages import (
    episode_advantages,
    turn_group_advantages,
    turn_score_advantages,
)
from agent_rl.objective.presets import AdvantageName

NAMES: tuple[AdvantageName, ...] = (
    "group_std",
    "group_mean",
    "leave_one_out",
    "turn_weighted",
    "turn_groups",
)
EVERY = pytest.mark.parametrize("name", NAMES)


def advantages(
    name: AdvantageName,
    returns: Sequence[float],
    trains: Sequence[bool] | None = None,
    turns: Sequence[int] = (),
) -> list[float]:
    """All train and have one turn, unless something else is said."""
    trains_G = torch.tensor([True] * len(returns) if trains is None else trains)
    got: list[float] = episode_advantages(
        name, torch.tensor(returns, dtype=torch.float64), trains_G, turns or [1] * len(returns)
    ).tolist()
    return got


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # mean 1/4; squared deviations 9/16 + 3 * 1/16 = 12/16 over 3 = 1/4; std 1/2
        ("group_std", [0.75 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001]),
        ("turn_groups", [0.75 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001]),
        ("group_mean", [0.75, -0.25, -0.25, -0.25]),
        # 1 - 0; 0 - 1/3
        ("leave_one_out", [1.0, -1 / 3, -1 / 3, -1 / 3]),
    ],
)
def test_one_success_of_four(name: AdvantageName, expected: list[float]) -> None:
    assert advantages(name, [1.0, 0.0, 0.0, 0.0]) == pytest.approx(expected, abs=1e-12)


def test_turn_weighted_by_hand() -> None:
    # Rows 1, 0, 0, 0: the success took one turn, the failure three. Without weights it would be 1/2
    # and -1/2 over 0.7.
    got = advantages("turn_weighted", [1.0, 0.0], turns=[1, 3])
    assert got == pytest.approx([0.75 / 0.500001, -0.25 / 0.500001], abs=1e-12)


def test_turn_weighted_is_group_std_of_a_row_for_each_turn() -> None:
    returns, turns = [10.0, 0.0, -1.0, 10.0], [3, 7, 1, 2]
    rows = [value for value, count in zip(returns, turns, strict=True) for _ in range(count)]
    of_rows = iter(advantages("group_std", rows))
    expected = [[next(of_rows) for _ in range(count)] for count in turns]
    got = advantages("turn_weighted", returns, turns=turns)
    assert [[value] * count for value, count in zip(got, turns, strict=True)] == [
        pytest.approx(row, abs=1e-12) for row in expected
    ]


@EVERY
def test_a_member_that_does_not_train_is_neither_in_the_mean_nor_trained(
    name: AdvantageName,
) -> None:
    got = advantages(name, [2.0, 1000.0, 0.0], [True, False, True], turns=[1, 50, 1])
    scale = {"group_mean": 1.0, "leave_one_out": 2.0}.get(name, 1 / (2**0.5 + 1e-6))
    assert got == pytest.approx([scale, 0.0, -scale], abs=1e-12)


@EVERY
@pytest.mark.parametrize("trains", [[False, False], [True, False]])
def test_a_group_with_nothing_to_compare_gives_zeros(
    name: AdvantageName, trains: list[bool]
) -> None:
    assert advantages(name, [3.0, 1.0], trains) == [0.0, 0.0]


@EVERY
def test_equal_returns_give_exactly_zero_in_spite_of_rounding(name: AdvantageName) -> None:
    returns = torch.full((7,), 0.1)
    assert float((returns - returns.mean()).abs().max()) > 0, (
        "rounding must be there for this test to mean anything"
    )
    got = episode_advantages(name, returns, torch.ones(7, dtype=torch.bool), [1, 2, 3, 4, 5, 6, 7])
    assert got.tolist() == [0.0] * 7


@EVERY
def test_advantages_of_a_group_add_up_to_zero(name: AdvantageName) -> None:
    turns = [3, 1, 4, 1]
    got = advantages(name, [1.0, 0.5, -2.0, 7.0], turns=turns)
    weights = turns if name == "turn_weighted" else [1] * 4
    assert sum(a * w for a, w in zip(got, weights, strict=True)) == pytest.approx(0.0, abs=1e-12)


def test_the_shapes_and_types_are_checked() -> None:
    trains = torch.tensor([True, True])
    for returns_G, trains_G, turns in (
        (torch.tensor([1, 0]), trains, [1, 1]),
        (torch.tensor([1.0, 0.0]), torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([1.0, 0.0]), trains, [1]),
        (torch.tensor([[1.0, 0.0]]), trains, [1, 1]),
    ):
        with pytest.raises(AssertionError):
            episode_advantages("group_std", returns_G, trains_G, turns)


def test_turns_that_began_in_the_same_state_are_compared() -> None:
    # Both episodes pass the hall. From there: 0 + 0.5 * 8 = 4 in the first, 2 in the second, which
    # began with 1. mean 3, std sqrt(2): +-1 / (sqrt(2) + 1e-6). All other states are passed once.
    got = turn_group_advantages(
        [["hall", "cellar"], ["garden", "hall"]],
        [[0.0, 8.0], [1.0, 2.0]],
        [True, True],
        discount=0.5,
    )
    one = 1 / (2**0.5 + 1e-6)
    assert got[0] == pytest.approx([one, 0.0])
    assert got[1] == pytest.approx([0.0, -one])


def test_a_state_that_an_episode_passes_twice_counts_twice() -> None:
    # Returns from the hall: 0 + 0 + 4 = 4, 4, and 1 in the other episode: mean 3, std sqrt(3), in
    # the order of turns.
    got = turn_group_advantages(
        [["hall", "hall", "end"], ["hall"]], [[0.0, 0.0, 4.0], [1.0]], [True, True], discount=1
    )
    std = 3**0.5 + 1e-6
    assert got[0] == pytest.approx([1 / std, 1 / std, 0.0])
    assert got[1] == pytest.approx([-2 / std])


def test_an_episode_that_does_not_train_is_in_no_state_group() -> None:
    states, rewards = [["hall"], ["hall"], ["hall"]], [[0.0], [2.0], [1000.0]]
    got = turn_group_advantages(states, rewards, [True, True, False], discount=0.9)
    one = 1 / (2**0.5 + 1e-6)
    assert [row[0] for row in got] == pytest.approx([-one, one, 0.0])
    assert turn_group_advantages(states, rewards, [True, False, False], discount=0.9) == [
        [0.0],
        [0.0],
        [0.0],
    ]


def test_equal_returns_from_a_state_give_exactly_zero() -> None:
    got = turn_group_advantages(
        [["hall", "x"], ["hall", "x"]], [[0.1, 0.2], [0.1, 0.2]], [True, True], discount=0.95
    )
    assert got == [[0.0, 0.0], [0.0, 0.0]]


def test_an_episode_without_turns_has_no_turn_advantages() -> None:
    assert turn_group_advantages([[], ["hall"]], [[], [1.0]], [True, True], discount=0.95) == [
        [],
        [0.0],
    ]


def test_turns_with_scores_of_their_own_by_hand() -> None:
    # Rows 1, 0, 0, -2 with the mean -1/4; squared deviations over 16 are 25 + 1 + 1 + 49 = 76, over
    # 3; std = sqrt(76 / 48).
    got = turn_score_advantages(
        [[1.0], [0.0, 0.0, -2.0]], [[True], [True, True, True]], [True, True]
    )
    std = (76 / 48) ** 0.5 + 1e-6
    assert got[0] == pytest.approx([1.25 / std], abs=1e-12)
    assert got[1] == pytest.approx([0.25 / std, 0.25 / std, -1.75 / std], abs=1e-12)


def test_turns_with_the_scores_of_their_episodes_are_turn_weighted() -> None:
    returns, turns, trains = [10.0, 0.0, 99.0, -1.0], [3, 7, 2, 1], [True, True, False, True]
    scores = [[value] * count for value, count in zip(returns, turns, strict=True)]
    got = turn_score_advantages(scores, [[True] * count for count in turns], trains)
    expected = advantages("turn_weighted", returns, trains, turns)
    assert [len(row) for row in got] == turns
    for row, value in zip(got, expected, strict=True):
        assert row == pytest.approx([value] * len(row), abs=1e-12)


def test_a_turn_that_does_not_count_is_compared_all_the_same() -> None:
    # Rows 2 and 0: mean 1, std sqrt(2). The second turn of the first episode is in neither.
    got = turn_score_advantages([[2.0, 5.0], [0.0]], [[True, False], [True]], [True, True])
    std = 2**0.5 + 1e-6
    assert got == [pytest.approx([1 / std, 4 / std]), pytest.approx([-1 / std])]


@pytest.mark.parametrize(
    ("scores", "trains"),
    [
        ([[1.0, 0.9], [3.0]], [True, False]),
        ([[0.1 + 0.2, 0.3], [0.3]], [True, True]),
        ([[], []], [False, False]),
    ],
)
def test_turns_with_nothing_to_compare_have_exactly_zero(
    scores: list[list[float]], trains: list[bool]
) -> None:
    counts = [[True] * len(of_turns) for of_turns in scores]
    zeros = [[0.0] * len(of_turns) for of_turns in scores]
    assert turn_score_advantages(scores, counts, trains) == zeros
