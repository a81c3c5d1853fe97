"""The checks of attention, on a CPU. test_parity.py has those of the engine's log-probs."""

from typing import Any

import pytest
import torch

from agent_rl.commands.bench.gpu import checks, run
from agent_rl.commands.bench.gpu.checks import (
    DeviceCheck,
    attention_checks,
    move_every_weight,
    relative_error,
)
from tests.builders.tiny_learner import make_tiny_model, weights_of

CPU = torch.device("cpu")
SHAPE = run.SHAPES[run.TINY]


def test_a_check_is_wrong_above_its_limit_and_if_it_is_no_number() -> None:
    values = (0.5, 1.0, 1.1, float("nan"))
    ok = [DeviceCheck(name="c", value=value, limit=1.0).ok for value in values]
    assert ok == [True, True, False, False]


def test_attention_is_right() -> None:
    found = attention_checks(SHAPE.model, run._forked(SHAPE.prompt), CPU)
    assert [check.ok for check in found] == [True] * 4, found
    # Not by being nothing: bfloat16 rounds.
    assert found[1].value > 0.5


def test_a_sample_that_sees_another_one_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_in_one(model: Any, samples: Any) -> torch.Tensor:
        whole = [token for sample in samples for token in sample]
        return right(model, [whole])

    right = checks.packed_states
    monkeypatch.setattr(checks, "packed_states", all_in_one)
    found = attention_checks(SHAPE.model, run._forked(SHAPE.prompt), CPU)
    assert [check.ok for check in found] == [False] * 4, found


def test_the_relative_error_by_hand() -> None:
    exact = [torch.tensor([3.0]), torch.tensor([4.0])]
    assert relative_error([torch.tensor([3.0]), torch.tensor([4.5])], exact) == 0.1


def test_every_weight_moves() -> None:
    model = make_tiny_model()
    before = weights_of(model)
    move_every_weight(model)
    moved = weights_of(model) - before
    assert bool((moved != 0.0).all())
    assert float(moved.std()) == pytest.approx(0.02, rel=0.05)
