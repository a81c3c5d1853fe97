"""Two real processes that train one model must do what one process does."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.distributed_c10d as c10d
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.learner.sharding import (
    ShardedRanks,
    join,
    listen,
    load_sharded,
    save_sharded,
)
from agent_rl.policy.whole import whole_weights
from tests.builders.paths import ROOT

pytestmark = pytest.mark.process

CPU = torch.device("cpu")
VOCABULARY = 31
MOST = 0.5
"""The norm that gradients are clipped to: below all of these tests'."""

MicroBatches = list[Tensor]
Named = dict[str, Tensor]
OnBoth = Callable[..., list[Any]]


class Scorer(nn.Module):
    """Log-probs of tokens, [T - 1]. As in the learner, the head is called by itself."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids_T: Tensor) -> Tensor:
        hidden_TH = self.model.model(input_ids=ids_T[None], use_cache=False).last_hidden_state[
            0, :-1
        ]
        logprobs_TV = torch.log_softmax(
            nn.functional.linear(hidden_TH, self.model.lm_head.weight), -1
        )
        return logprobs_TV.gather(-1, ids_T[1:, None]).sum(-1)


class Trainee:
    """A model, its scorer and its optimizer, in one process or in a rank; `steps` are those of
    `micro_batches`.
    """

    def __init__(
        self,
        ranks: ShardedRanks | None,
        *,
        tied: bool = False,
        seed: int = 0,
        layers: int = 2,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=25,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=tied,
            initializer_range=0.5,
        )
        self.model: LlamaForCausalLM = LlamaForCausalLM(config).to(dtype).eval()  # type: ignore[no-untyped-call, arg-type]
        self.ranks = ranks
        self.scorer = Scorer(self.model) if ranks is None else ranks.shard(Scorer(self.model))
        self.parameters = list(self.scorer.parameters())
        self.optimizer = AdamW(self.parameters, lr=1e-2, weight_decay=0.1)

    def backward(self, micro_batches: MicroBatches) -> None:
        """Add the gradients of all micro-batches; a rank without one makes idle passes."""
        rank, size = (self.ranks.rank, self.ranks.size) if self.ranks else (0, 1)
        mine = micro_batches[rank::size]
        for ids_T in mine:
            self.scorer(ids_T).square().sum().backward()
        for _ in range(-(-len(micro_batches) // size) - len(mine)):
            (self.scorer(torch.zeros(2, dtype=torch.long)).sum() * 0.0).backward()

    def clip(self) -> float:
        if self.ranks:
            return self.ranks.clip_gradients(self.parameters, MOST)
        return float(clip_grad_norm_(self.parameters, MOST))

    def steps(self, *numbers: int) -> None:
        for number in numbers:
            self.backward(micro_batches_of(3, seed=number))
            self.clip()
            self.optimizer.step()
            self.optimizer.zero_grad()

    def gradients(self) -> Named:
        named = {name: p.grad for name, p in self.scorer.named_parameters() if p.grad is not None}
        return {
            name: g.full_tensor() if isinstance(g, DTensor) else g.clone()
            for name, g in named.items()
        }

    def weights(self) -> Named:
        return whole_weights(self.model.state_dict(keep_vars=True).items())


def micro_batches_of(count: int, seed: int = 0) -> MicroBatches:
    """Of different lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, VOCABULARY, (5 + 3 * i,), generator=generator) for i in range(count)]


def assert_same(got: Named, expected: Named) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        difference = float((tensor - expected[name]).abs().max())
        assert difference < 1e-10, (name, difference)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: with such a small model, threads mostly wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def on_both() -> Iterator[OnBoth]:
    """Calls a function of this module in two ranks, which live as long as the module's tests;
    returns both results.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = zip(*(context.Pipe() for _ in range(2)), strict=True)
    processes = [
        context.Process(target=serve_rank, args=(rank, theirs[rank]), daemon=True)
        for rank in range(2)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))  # the new processes import this module
        for process in processes:
            process.start()
    ours[1].send(ours[0].recv())

    def call(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        for pipe in ours:
            pipe.send((function, arguments))
        results = [pickle.loads(pipe.recv_bytes()) for pipe in ours]
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    yield call
    for pipe, process in zip(ours, processes, strict=True):
        pipe.send(None)
        process.join(timeout=60)
        assert process.exitcode == 0


def serve_rank(rank: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    if rank == 0:
        rendezvous, address = listen()
        pipe.send(address)
        ranks = join(rendezvous, rank=0, size=2, device=CPU, timeout_seconds=60)
    else:
        ranks = join(pipe.recv(), rank=1, size=2, device=CPU, timeout_seconds=60)
    while (call := pipe.recv()) is not None:
        function, arguments = call
        try:
            result = function(ranks, *arguments)
        except Exception as error:
            result = error
        # Plain pickle: the pipe's own pickling hands tensors over in shared memory.
        pipe.send_bytes(pickle.dumps(result))
    dist.destroy_process_group()


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


def saved(
    ranks: ShardedRanks | None, folder: Path, steps: tuple[int, ...], tied: bool = False
) -> None:
    trainee = Trainee(ranks, tied=tied)
    trainee.steps(*steps)
    save_sharded(folder, trainee.model, trainee.optimizer)


def weights_of_resumed(
    ranks: ShardedRanks | None, folder: Path, steps: tuple[int, ...], tied: bool
) -> Named:
    trainee = Trainee(ranks, tied=tied, seed=1)
    trainee.steps(9)  # the optimizer gets other state, which loading must replace
    load_sharded(folder, trainee.model, trainee.optimizer)
    trainee.steps(*steps)
    return trainee.weights()


@pytest.mark.parametrize(("before", "tied"), [((), False), ((1, 2), False), ((1, 2), True)])
@pytest.mark.parametrize(("saves", "loads"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_run_resumes_in_any_number_of_ranks(
    saves: int, loads: int, before: tuple[int, ...], tied: bool, on_both: OnBoth, tmp_path: Path
) -> None:
    def run(ranks: int, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(None, *arguments) if ranks == 1 else on_both(function, *arguments)[0]

    folder, after = tmp_path / "checkpoint", (3, 4)
    uninterrupted = Trainee(None, tied=tied)
    uninterrupted.steps(*before, *after)
    run(saves, saved, folder, before, tied)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}, (
        "these alone run no code when they are read"
    )
    assert len(list(folder.iterdir())) == saves
    assert_same(run(loads, weights_of_resumed, folder, after, tied), uninterrupted.weights())


def test_the_optimizer_keeps_its_settings_and_its_step_count(
    on_both: OnBoth, tmp_path: Path
) -> None:
    on_both(saved, tmp_path / "checkpoint", (1, 2))
    trainee = Trainee(None, seed=1)
    trainee.optimizer.param_groups[0]["lr"] = 0.125
    load_sharded(tmp_path / "checkpoint", trainee.model, trainee.optimizer)
    assert trainee.optimizer.param_groups[0]["lr"] == 0.125
    assert {float(state["step"]) for state in trainee.optimizer.state.values()} == {2.0}


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def error_of_load(ranks: ShardedRanks | None, folder: Path, layers: int = 2) -> str:
    trainee = Trainee(ranks, layers=layers)
    before = [p.detach().clone() for p in trainee.parameters]
    with pytest.raises(ValueError, match="checkpoint") as raised:
        load_sharded(folder, trainee.model, trainee.optimizer)
    assert all(torch.equal(p, q) for p, q in zip(trainee.parameters, before, strict=True))
    return str(raised.value)


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], None], shard: int, on_both: OnBoth, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    on_both(saved, folder, (1,))
    damage(sorted(folder.iterdir())[shard])
    assert str(folder) in error_of_load(None, folder)
    assert on_both(error_of_load, folder) == [error_of_load(None, folder)] * 2


def test_a_checkpoint_that_is_missing_or_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    assert "No such file" in error_of_load(None, folder)
    folder.mkdir()
    assert "holds no tensors" in error_of_load(None, folder)
    saved(None, folder, (1,))
    assert "layers.2" in error_of_load(None, folder, 3)
    assert "layers.1" in error_of_load(None, folder, 1)


def test_a_folder_with_files_is_not_written_into(tmp_path: Path) -> None:
    saved(None, tmp_path, (1,))
    with pytest.raises(ValueError, match="not empty"):
        saved(None, tmp_path, (1,))
