"""Checks of a device's arithmetic: attention of packs, and the engine's log-probs.

The tests of attention and of parity use the same functions on a CPU.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from agent_rl.learner.attention import use_packed_attention
from agent_rl.learner.learner import Learner
from agent_rl.learner.prefix_tree import Branch, PrefixTree
from agent_rl.learner.samples import TrainingSample

_LAYERS = 2
"""Of the model in which attention is checked."""
_EXACT = 1e-4
"""The largest relative error in float32: sums are in another order."""
_AS_ALONE = 2.0
"""The largest error in bfloat16, in times of the error that a sample alone has."""
_SCORED = 8
"""Samples that are scored in one pass."""


@dataclass(frozen=True, kw_only=True)
class DeviceCheck:
    """A number that must not be above a limit."""

    name: str
    """What is measured."""
    value: float
    """The number."""
    limit: float
    """The largest that is right."""

    @property
    def ok(self) -> bool:
        """Whether it is right; a number that is not finite is not."""
        return self.value <= self.limit


def attention_checks(
    config: PreTrainedConfig, samples: Sequence[Sequence[int]], device: torch.device
) -> list[DeviceCheck]:
    """Compare a pack with each sample alone, forwards and backwards, in two layers of a model.

    The reference is transformers' own attention in float32. In bfloat16 a pack may be as far from
    it as a sample alone in bfloat16 is.

    Args:
        config: the model's; its widths and heads count.
        samples: token ids; some should begin alike.
    """
    small = copy.deepcopy(config)
    small.num_hidden_layers = _LAYERS
    small.layer_types = None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = AutoModelForCausalLM.from_config(small)  # type: ignore[no-untyped-call]
    model = model.to(device).eval()

    def run(*, pack: bool, bfloat16: bool) -> tuple[Tensor, list[Tensor]]:
        if pack:
            use_packed_attention(model)
        else:
            model.set_attn_implementation("sdpa")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            states = packed_states(model, samples) if pack else states_alone(model, samples)
        found = gradients_of(model, states)
        return states.detach(), [gradient for gradient in found if gradient is not None]

    exact = run(pack=False, bfloat16=False)
    single, half = run(pack=True, bfloat16=False), run(pack=True, bfloat16=True)
    alone = run(pack=False, bfloat16=True)
    checks = []
    for i, way in enumerate(("forwards", "backwards")):
        error = relative_error(single[i], exact[i])
        checks.append(DeviceCheck(name=f"attention, float32, {way}", value=error, limit=_EXACT))
        error, usual = relative_error(half[i], exact[i]), relative_error(alone[i], exact[i])
        name = f"attention, bfloat16, {way}, to alone"
        checks.append(DeviceCheck(name=name, value=error / usual, limit=_AS_ALONE))
    return checks


def packed_states(
    model: Any,
    samples: Sequence[Sequence[int]],
    *,
    share: bool = True,
    branches: tuple[Branch, ...] | None = None,
) -> Tensor:
    """Return the decoder's last hidden states of a pack, [T, H], one sample after the other.

    Args:
        model: with packed attention.
        samples: token ids.
        share: whether samples share their beginnings.
        branches: others than those of the pack.
    """
    tree = PrefixTree.of([tuple(sample) for sample in samples], share=share)
    input_ids, position_ids = torch.zeros(2, 1, tree.size, dtype=torch.long)
    for i, sample in enumerate(samples):
        input_ids[0, tree.positions(i)] = torch.tensor(sample)
        position_ids[0, tree.positions(i)] = torch.arange(len(sample))
    states: Tensor = model.model(
        input_ids=input_ids.to(model.device),
        position_ids=position_ids.to(model.device),
        use_cache=False,
        branches=tree.branches if branches is None else branches,
    ).last_hidden_state[0]
    return torch.cat([states[tree.positions(i)] for i in range(len(samples))])


def states_alone(model: Any, samples: Sequence[Sequence[int]]) -> Tensor:
    """Return the same, each sample through transformers' own attention."""
    rows = [torch.tensor([list(sample)], device=model.device) for sample in samples]
    return torch.cat([model.model(input_ids=row).last_hidden_state[0] for row in rows])


def gradients_of(model: nn.Module, states: Tensor) -> list[Tensor | None]:
    """Return the gradients of a loss that no two positions and features have the same part in."""
    places = torch.arange(states.numel(), dtype=states.dtype, device=states.device)
    loss = (states * places.reshape(states.shape).sin()).sum()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, parameters, allow_unused=True))


def relative_error(found: Tensor | list[Tensor], exact: Tensor | list[Tensor]) -> float:
    """Return the norm of the difference over the norm of `exact`; lists are one long row."""
    ours = _row(found)
    theirs = _row(exact)
    return float((ours - theirs).norm() / theirs.norm())


def _row(tensors: Tensor | list[Tensor]) -> Tensor:
    several = tensors if isinstance(tensors, list) else [tensors]
    return torch.cat([tensor.flatten().double().cpu() for tensor in several])


def logprobs_of(learner: Learner, samples: Sequence[TrainingSample]) -> Tensor:
    """Return the learner's log-probs of the agent's tokens, [N] on the CPU, sample after sample."""
    parts = [samples[i : i + _SCORED] for i in range(0, len(samples), _SCORED)]
    return torch.cat([learner.logprobs(part).cpu() for part in parts])


def sampled_logprobs(samples: Sequence[TrainingSample]) -> Tensor:
    """Return the log-probs that the engine gave, [N], in the same order."""
    rows = [zip(s.behavior_logprobs, s.action_mask, strict=True) for s in samples]
    return torch.tensor([logprob for row in rows for logprob, is_agent in row if is_agent])


def mean_difference(learner: Learner, samples: Sequence[TrainingSample]) -> float:
    """Return the mean |learner's - sampler's| log-prob over the agent's tokens, in nats."""
    return float((logprobs_of(learner, samples) - sampled_logprobs(samples)).abs().mean())


@torch.no_grad()
def move_every_weight(model: nn.Module, scale: float = 0.02) -> None:
    """Add noise to all weights of a device; by default it is as large as initial weights are."""
    parameters = list(model.parameters())
    generator = torch.Generator(parameters[0].device).manual_seed(1)
    for parameter in parameters:
        noise = torch.randn(parameter.shape, generator=generator, device=generator.device)
        parameter.add_(scale * noise)
