"""Two updates with the same samples are equal to the bit, with any number of threads."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import Node

from agent_rl.learner.batch import Batch
from tests.builders.samples import grouped_samples
from tests.builders.tiny_learner import WALL, MakeModel, learner_of, weights_of


def nodes_of(loss: Tensor) -> set[Node]:
    """All nodes of a loss's graph."""
    assert loss.grad_fn is not None
    seen: set[Node] = set()
    waiting = [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions if parent is not None]
    return seen


def adds_up_in_any_order(node: Any) -> bool:
    """Whether torch adds up a node's gradient in several threads, in the order they come in.

    It does for `x[numbers]`, as a number may come twice, and not for `x[mask]` or `index_select`.
    """
    if node.name() != "IndexBackward0":
        return False
    return any(i is not None and i.dtype is not torch.bool for i in node._saved_indices)


def test_the_search_finds_numbers_and_not_masks() -> None:
    x = torch.ones(3, requires_grad=True)
    assert adds_up_in_any_order(x[torch.tensor([1, 1])].grad_fn)
    assert not adds_up_in_any_order(x[torch.tensor([True, False, True])].grad_fn)
    assert not adds_up_in_any_order(x.index_select(0, torch.tensor([1, 1])).grad_fn)


@pytest.mark.parametrize("objective", ["gmpo", "grpo", "gspo"])
def test_no_gradient_is_added_up_in_any_order(
    objective: str, tiny_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = learner_of(tiny_model(), objective=objective)
    names: set[str] = set()
    wrong: list[Node] = []

    def spy(loss: Tensor, batch: Batch, *, must_be_finite: bool = True) -> None:
        # Before the pass, which frees what the nodes have saved.
        nodes = nodes_of(loss)
        names.update(node.name() for node in nodes)
        wrong.extend(node for node in nodes if adds_up_in_any_order(node))
        loss.backward()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(learner._passes, "backward", spy)
    learner.update(grouped_samples())
    learner.supervised_step(grouped_samples())
    # The search sees the learner's own operations.
    assert "IndexSelectBackward0" in names
    assert not wrong


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_updates_with_the_same_samples_are_equal(dtype: str, tiny_model: MakeModel) -> None:
    def updated() -> tuple[Tensor, dict[str, Any]]:
        model = tiny_model(dtype=torch.float32)
        learner = learner_of(model, dtype=dtype, optimizer_steps=2, threads=2)
        metrics = learner.update(grouped_samples())
        kept = {name: value for name, value in metrics.items() if name not in WALL}
        return weights_of(model), kept

    threads = torch.get_num_threads()
    try:
        (weights, metrics), (weights_again, metrics_again) = updated(), updated()
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights, weights_again)
    assert metrics == metrics_again
    assert metrics["grad_norm"] > 0
