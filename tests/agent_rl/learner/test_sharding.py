"""Two real processes that train one model must do what one process does."""

from pathlib import Path

import pytest
import torch
import torch.distributed.distributed_c10d as c10d
from torch import Tensor
from transformers import LlamaForCausalLM

from agent_rl.learner.sharding import ShardedRanks, listen, load_sharded, save_sharded
from tests.builders.two_ranks import (
    MOST,
    Named,
    OnBoth,
    Trainee,
    assert_same,
    micro_batches_of,
)

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("one_thread")]


def gradients_of(ranks: ShardedRanks | None, count: int, tied: bool) -> tuple[Named, float, Named]:
    trainee = Trainee(ranks, tied=tied)
    trainee.backward(micro_batches_of(count))
    return trainee.gradients(), trainee.clip(), trainee.gradients()


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_gradients_and_their_norm_are_those_of_one_process(
    on_both: OnBoth, count: int, tied: bool
) -> None:
    gradients, norm, clipped = gradients_of(None, count, tied)
    assert norm > 10 * MOST
    for of_rank in on_both(gradients_of, count, tied):
        assert_same(of_rank[0], gradients)
        assert of_rank[1] == pytest.approx(norm, rel=1e-12)
        assert_same(of_rank[2], clipped)


def gradients_and_weights_of_experts(ranks: ShardedRanks | None) -> tuple[Named, Named]:
    # Three experts for two ranks: one of them has two, and the other has one.
    trainee = Trainee(ranks, experts=3)
    trainee.backward(micro_batches_of(3))
    return trainee.gradients(), trainee.weights()


def test_experts_are_shared_out_among_the_ranks(on_both: OnBoth) -> None:
    gradients, weights = gradients_and_weights_of_experts(None)
    assert gradients["model.model.layers.0.mlp.experts.down_proj"].shape == (3, 16, 25)
    (first, gathered_weights), (second, none) = on_both(gradients_and_weights_of_experts)
    assert_same(gathered_weights, weights)
    assert none == {}
    for of_rank in (first, second):
        for name, gradient in of_rank.items():
            # The router's softmax is in float32, whatever the model's dtype is.
            torch.testing.assert_close(gradient, gradients[name], atol=1e-5, rtol=1e-5)


def gradients_in_float32(ranks: ShardedRanks | None) -> Named:
    trainee = Trainee(ranks, dtype=torch.float32)
    trainee.backward(micro_batches_of(4))
    return trainee.gradients()


def test_gradients_are_sums_in_float32_too(on_both: OnBoth) -> None:
    expected = gradients_in_float32(None)
    for of_rank in on_both(gradients_in_float32):
        for name, gradient in of_rank.items():
            assert float((gradient - expected[name]).norm()) < 1e-5 * float(
                expected[name].norm()
            ), name


def norm_with_a_bad_gradient(ranks: ShardedRanks) -> float:
    trainee = Trainee(ranks)
    (
        trainee.scorer(micro_batches_of(1)[0]).sum() * (float("nan") if ranks.rank else 1.0)
    ).backward()
    return trainee.clip()


def test_a_gradient_that_is_not_finite_is_seen_in_every_rank(on_both: OnBoth) -> None:
    assert not any(torch.isfinite(torch.tensor(on_both(norm_with_a_bad_gradient))))


def weights_after_steps(ranks: ShardedRanks | None, tied: bool) -> tuple[Named, bool]:
    """The weights, and whether a tied pair shares its memory."""
    trainee = Trainee(ranks, tied=tied)
    trainee.steps(1, 2, 3)
    weights = trainee.weights()
    same = bool(weights) and weights["lm_head.weight"] is weights["model.embed_tokens.weight"]
    return weights, same


@pytest.mark.parametrize("tied", [False, True])
def test_steps_of_adamw_are_those_of_one_process_and_rank_0_gathers_the_weights(
    on_both: OnBoth, tied: bool
) -> None:
    expected, _ = weights_after_steps(None, tied)
    (first, shared), (second, _) = on_both(weights_after_steps, tied)
    assert list(first) == list(LlamaForCausalLM.state_dict(Trainee(None, tied=tied).model))
    assert_same(first, expected)
    assert shared is tied
    assert second == {}


def logprobs_around_a_change(ranks: ShardedRanks | None) -> tuple[Tensor, Tensor, bool]:
    """Log-probs before and after a change of the weights, without gradient, and whether the weights
    stayed shared.
    """
    trainee = Trainee(ranks)
    ids_T = micro_batches_of(1)[0]
    trainee.backward(micro_batches_of(2))
    with torch.no_grad():
        before = trainee.scorer(ids_T)
        sharded = all(
            p is q for p, q in zip(trainee.scorer.parameters(), trainee.parameters, strict=True)
        )
        trainee.optimizer.step()
        return before, trainee.scorer(ids_T), sharded


def test_a_pass_without_gradient_leaves_the_weights_shared_out(on_both: OnBoth) -> None:
    before, after, _ = logprobs_around_a_change(None)
    assert float((after - before).abs().max()) > 0.01
    for of_rank in on_both(logprobs_around_a_change):
        torch.testing.assert_close(of_rank[0], before, rtol=0, atol=1e-10)
        torch.testing.assert_close(of_rank[1], after, rtol=0, atol=1e-10)
        assert of_rank[2]


def gathered(ranks: ShardedRanks) -> list[Named]:
    own = {"rank": torch.tensor(ranks.rank), "flags": torch.ones(2 + ranks.rank).bool()}
    return ranks.gather(own if ranks.rank else {**own, "more": torch.zeros(3, 2).bfloat16()})


def test_gather_returns_every_tensor_in_the_order_of_the_ranks(on_both: OnBoth) -> None:
    for of_ranks in on_both(gathered):
        assert [int(of_rank["rank"]) for of_rank in of_ranks] == [0, 1]
        assert [of_rank["flags"].tolist() for of_rank in of_ranks] == [[True] * 2, [True] * 3]
        assert (of_ranks[0]["more"].dtype, of_ranks[0]["more"].shape) == (torch.bfloat16, (3, 2))
        assert "more" not in of_ranks[1]


def gathered_without_pickle(ranks: ShardedRanks, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_object_to_tensor", "_tensor_to_object"):
            patch.setattr(c10d, name, None)
        gathered(ranks)
        trainee = Trainee(ranks)
        trainee.steps(1)
        save_sharded(folder, trainee.model, trainee.optimizer)
        load_sharded(folder, trainee.model, trainee.optimizer)


def test_the_ranks_exchange_no_pickles(on_both: OnBoth, tmp_path: Path) -> None:
    on_both(gathered_without_pickle, tmp_path / "shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(c10d, "_object_to_tensor", None)  # the name is still torch's


def test_the_rendezvous_listens_on_its_own_address_only() -> None:
    store, address = listen("127.0.0.1")
    port = f"{int(address.rpartition(':')[2]):04X}"
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()
        if line.split()[1].endswith(f":{port}") and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F:{port}"]
    assert store.port == int(port, 16)
