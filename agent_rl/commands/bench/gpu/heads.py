"""The formats in which the head may multiply, tried within the learner's own scoring.

The learner's head is in float32 (`agent_rl.learner.scoring`). That is the exact way, and the slow
one on a GPU, whose tensor cores do not take float32. On a CPU the other formats are imitated: the
inputs are rounded as a GPU rounds them, and multiplied in float32. Errors are then real, and times
are not.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent_rl.commands.bench.gpu.checks import logprobs_of, sampled_logprobs
from agent_rl.learner.learner import Learner
from agent_rl.learner.samples import TrainingSample
from agent_rl.policy.loading import decoder_and_head

Product = Callable[[Tensor, Tensor], Tensor]
"""Logits [C, V] of hidden states [C, H] and weights [V, H]."""

_TF32_UNSEEN_BITS = 13
"""Of the 23 bits of a float32's fraction, TF32 keeps 10."""


def tf32(hidden: Tensor, weight: Tensor) -> Tensor:
    """Multiply in TF32."""
    if not hidden.is_cuda:
        return functional.linear(rounded_to_tf32(hidden), rounded_to_tf32(weight))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        return functional.linear(hidden, weight)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def bfloat16(hidden: Tensor, weight: Tensor) -> Tensor:
    """Multiply bfloat16, with sums and logits in float32."""
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    if not hidden.is_cuda:
        return functional.linear(hidden.float(), weight.float())
    return torch.mm(hidden, weight.t(), out_dtype=torch.float32)


HEADS: dict[str, Product] = {
    "float32 (the learner's)": functional.linear,
    "TF32": tf32,
    "bfloat16, float32 sums": bfloat16,
}
"""The formats by name; the first is exact."""


@dataclass(frozen=True, kw_only=True)
class HeadErrors:
    """Log-probs of one format."""

    name: str
    """The format."""
    mean_error: float
    """The mean |difference| to float32's log-probs, in nats."""
    largest_error: float
    """The largest one."""
    to_engine: float
    """The mean |difference| to the engine's log-probs."""
    seconds: float
    """The time of the whole scoring, decoder included."""


@torch.no_grad()
def head_errors(learner: Learner, samples: Sequence[TrainingSample]) -> list[HeadErrors]:
    """Score samples with each format."""
    engine = sampled_logprobs(samples)
    exact: Tensor | None = None
    rows = []
    for name, product in HEADS.items():
        with head_by(decoder_and_head(learner.model)[1], product):
            logprobs_of(learner, samples)  # the first time also chooses kernels
            begin = time.perf_counter()
            found = logprobs_of(learner, samples)
            seconds = time.perf_counter() - begin
        exact = found if exact is None else exact
        error = (found - exact).abs()
        row = HeadErrors(
            name=name,
            mean_error=float(error.mean()),
            largest_error=float(error.max()),
            to_engine=float((found - engine).abs().mean()),
            seconds=seconds,
        )
        rows.append(row)
    return rows


@contextmanager
def head_by(head: nn.Linear, product: Product) -> Iterator[None]:
    """Let a head multiply by `product` within this context."""
    assert head.bias is None, "the heads of the shapes have no bias"
    head.forward = lambda hidden: product(hidden, head.weight)
    try:
        yield
    finally:
        del head.forward  # the class's own is seen again


def rounded_to_tf32(x: Tensor) -> Tensor:
    """Round float32 to the nearest number that TF32 has."""
    half = 1 << (_TF32_UNSEEN_BITS - 1)
    bits = (x.view(torch.int32) + half) & ~((1 << _TF32_UNSEEN_BITS) - 1)
    return bits.view(torch.float32)
