"""A tiny policy and samples for it, shared by the learner's tests."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.learner.samples import TrainingSample

VOCABULARY = 32


@pytest.fixture
def tiny_model() -> Callable[..., LlamaForCausalLM]:
    return make_model


@pytest.fixture
def random_samples() -> Callable[..., list[TrainingSample]]:
    return make_samples


def make_model(*, tied: bool = False, dtype: torch.dtype = torch.float64) -> LlamaForCausalLM:
    """Always the same random weights, large enough for log-probs to differ."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=tied,
        initializer_range=0.5,
    )
    return with_exact_norms(LlamaForCausalLM(config).to(dtype))  # type: ignore[no-untyped-call, arg-type]


def with_exact_norms(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The model with norms that stay in its dtype: transformers' own round to float32, also in a
    model of float64.

    Where samples share a token, their gradients are added before a norm instead of after it:
    rounded, the weights' would differ by 1e-9.
    """
    for part in [model.model, *model.model.layers]:
        for name, norm in [
            (name, norm) for name, norm in part.named_children() if name.endswith("norm")
        ]:
            same = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
            same.weight = norm.weight
            setattr(part, name, same)
    return model


def make_samples(count: int, seed: int = 0, *, parts: int = 1) -> list[TrainingSample]:
    """Episodes of one to four turns of different lengths; every third has advantage 0.

    With `parts`, every episode comes as so many samples, all of its advantage.
    """
    rng = random.Random(seed)
    samples = []
    for i in range(count):
        mask: list[bool] = []
        turns = rng.randint(1, 4)
        for _ in range(turns):
            mask += [False] * rng.randint(1, 4) + [True] * rng.randint(1, 3)
        samples.append(
            TrainingSample(
                token_ids=tuple(rng.randrange(VOCABULARY) for _ in mask),
                action_mask=tuple(mask),
                behavior_logprobs=tuple(-4.0 * rng.random() if bit else 0.0 for bit in mask),
                advantages=(0.0 if i % 3 == 2 else rng.choice([-1.0, 1.0]) * (0.5 + rng.random()),)
                * turns,
            )
        )
    if parts == 1:
        return samples
    cut = []
    for number, first in enumerate(samples):
        others = make_samples(parts - 1, seed=1000 + number)
        cut += [
            replace(part, episode=number, advantages=first.advantages[:1] * part.turns)
            for part in (first, *others)
        ]
    return cut
