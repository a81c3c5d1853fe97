import pytest
import torch

from agent_rl.advantages import group_advantages


def test_one_success_of_four() -> None:
    # mean 1/4; squared deviations 9/16 + 3 * 1/16 = 12/16 over 3 = 1/4; std 1/2
    got = group_advantages(torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64), torch.ones(4, dtype=torch.bool))
    assert got.tolist() == pytest.approx([0.75 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001, -0.25 / 0.500001])


def test_a_member_that_does_not_train_is_neither_in_the_mean_nor_trained() -> None:
    got = group_advantages(torch.tensor([2.0, 0.0, 1000.0]), torch.tensor([True, True, False]))
    assert got.tolist() == pytest.approx([1 / 2**0.5, -1 / 2**0.5, 0.0], abs=1e-5)


@pytest.mark.parametrize("trains", [[False, False], [True, False]])
def test_a_group_with_nothing_to_compare_gives_zeros(trains: list[bool]) -> None:
    assert group_advantages(torch.tensor([3.0, 1.0]), torch.tensor(trains)).tolist() == [0.0, 0.0]


def test_equal_returns_give_exactly_zero_in_spite_of_rounding() -> None:
    returns = torch.full((7,), 0.1)
    assert float((returns - returns.mean()).abs().max()) > 0, "rounding must be there for this test to mean anything"
    assert group_advantages(returns, torch.ones(7, dtype=torch.bool)).tolist() == [0.0] * 7
