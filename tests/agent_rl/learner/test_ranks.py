import pytest
import torch
from torch import nn

from agent_rl.learner.ranks import Ranks


def test_one_process_shares_nothing() -> None:
    ranks, module = Ranks(), nn.Linear(2, 2)
    assert (ranks.rank, ranks.size) == (0, 1)
    assert ranks.shard(module) is module
    assert ranks.gather({"value": torch.tensor(2)}) == [{"value": torch.tensor(2)}]


def test_a_gradient_is_clipped_by_hand() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3.0, 4.0])
    assert Ranks().clip_gradients([parameter], 0.5) == pytest.approx(5.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.3, 0.4]))
