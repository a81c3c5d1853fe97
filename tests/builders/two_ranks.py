"""Two real processes that train one model, and a model for them with its optimizer."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

from agent_rl.learner.experts import use_experts_by_rows
from agent_rl.learner.sharding import ShardedRanks, join, listen
from agent_rl.policy.whole import whole_weights
from tests.builders.paths import ROOT

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
        experts: int = 0,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "intermediate_size": 25,
            "num_hidden_layers": layers,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "tie_word_embeddings": tied,
            "initializer_range": 0.5,
        }
        model: Any
        if experts:
            config = MixtralConfig(**sizes, num_local_experts=experts)
            model = MixtralForCausalLM(config)  # type: ignore[no-untyped-call]
            use_experts_by_rows(model)
        else:
            model = LlamaForCausalLM(LlamaConfig(**sizes))  # type: ignore[no-untyped-call]
        self.model: LlamaForCausalLM = model.to(dtype).eval()
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


@contextmanager
def two_ranks() -> Iterator[OnBoth]:
    """Yield what calls a function of a test module in two ranks, and returns both results.

    They live as long as the `with` block.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = zip(*(context.Pipe() for _ in range(2)), strict=True)
    processes = [
        context.Process(target=serve_rank, args=(rank, theirs[rank]), daemon=True)
        for rank in range(2)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))  # the new processes import the test module
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
