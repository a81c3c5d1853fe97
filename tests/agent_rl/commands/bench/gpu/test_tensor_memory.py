import pytest
import torch

from agent_rl.commands.bench.gpu.tensor_memory import memory_meter


def test_bytes_are_counted_until_they_are_freed() -> None:
    there = torch.zeros(1000)
    with memory_meter(torch.device("cpu"), [there]) as meter:
        assert (meter.now, meter.peak) == (4000, 4000)
        twice = there * 2
        assert meter.now == 8000
        view = twice[10:]
        view.add_(1.0)
        assert meter.now == 8000, "a view, and an operation in place, take nothing"
        del twice
        assert meter.now == 8000, "the view still holds it"
        del view
        assert (meter.now, meter.peak) == (4000, 8000)
        meter.reset()
        assert meter.peak == 4000


def test_the_backward_pass_is_counted() -> None:
    x = torch.zeros(1000, requires_grad=True)
    with memory_meter(torch.device("cpu"), [x]) as meter:
        loss = (x * x).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        assert x.grad is not None
        # The numbers and their gradient.
        assert meter.now == pytest.approx(8000, abs=64)
        assert meter.peak >= 12000
