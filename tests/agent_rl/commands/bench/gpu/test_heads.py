import pytest
import torch

from agent_rl.commands.bench.gpu.heads import (
    HEADS,
    bfloat16,
    head_by,
    head_errors,
    rounded_to_tf32,
    tf32,
)
from agent_rl.learner.samples import TrainingSample
from tests.builders.samples import make_samples
from tests.builders.tiny_learner import learner_of, make_tiny_model


def test_tf32_keeps_ten_bits() -> None:
    one, bit = 1.0, 2.0**-10
    x = torch.tensor([one, one + bit, one + bit / 4, one + 3 * bit / 4, -one - 3 * bit / 4])
    expected = torch.tensor([one, one + bit, one, one + bit, -one - bit])
    assert torch.equal(rounded_to_tf32(x), expected)


def test_products_of_rounded_numbers_have_exact_sums() -> None:
    # 1 + 2^-9 is not in bfloat16, and is in TF32; the sum of both products is in float32 alone.
    hidden = torch.tensor([[1.0 + 2.0**-9, 2.0**-12]])
    weight = torch.tensor([[1.0, 1.0]])
    assert float(tf32(hidden, weight)) == 1.0 + 2.0**-9 + 2.0**-12
    assert float(bfloat16(hidden, weight)) == 1.0 + 2.0**-12


def test_a_head_multiplies_otherwise_within_the_context_only() -> None:
    head = torch.nn.Linear(2, 3, bias=False)
    x = torch.ones(1, 2)
    before = head(x)
    with head_by(head, lambda hidden, weight: torch.zeros(1, 3)):
        assert float(head(x).abs().sum()) == 0.0
    assert torch.equal(head(x), before)


def test_errors_grow_as_formats_shrink() -> None:
    learner = learner_of(make_tiny_model(dtype=torch.float32))
    samples: list[TrainingSample] = make_samples(20)
    exact, middle, short = head_errors(learner, samples)
    assert [exact.name, middle.name, short.name] == list(HEADS)
    assert (exact.mean_error, exact.largest_error) == (0.0, 0.0)
    assert 0.0 < middle.mean_error < short.mean_error < 0.05
    # Three more bits: an eighth of the error.
    assert middle.mean_error == pytest.approx(short.mean_error / 8, rel=0.5)
    assert exact.to_engine > 0.5, "the samples' log-probs are random"
