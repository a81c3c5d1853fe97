"""An estimate of time: the work of a rollout step, and the seconds that a GPU's peak allows.

Light to import. Only arithmetic and memory traffic count. Environments, Ray, the way of the weights
and files come on top; docs/performance.md has what measures them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent_rl.commands.bench.gpu.gpus import Gpu
from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import EngineMemory, chunk_rows, requests_at_once
from agent_rl.config import Config
from rollouts.serving.dtypes import chosen_dtype

if TYPE_CHECKING:
    from agent_rl.commands.bench.gpu.shapes import ModelShape

_OPTIMIZER_BYTES = 28
"""AdamW reads four numbers of each weight (weight, gradient, moments), and writes three."""


@dataclass(frozen=True, kw_only=True)
class StepPart:
    """A part of a rollout step, over all GPUs that share it."""

    name: str
    """What is done."""
    operations: float
    """Floating-point operations."""
    traffic: float
    """Bytes from and to memory, where they may be the limit; else 0."""
    seconds: float
    """The time at the peak of the GPUs' arithmetic or bandwidth, whichever is longer."""


def parts_of(config: Config, shape: "ModelShape", load: StepLoad, gpu: Gpu) -> list[StepPart]:
    """Return the parts of a rollout step.

    Every engine and every rank of the learner has a GPU, or they take turns on one.
    """
    engine = _Speed(gpu, config.serving.gpus, bfloat16=config.serving.dtype != "float32")
    in_bfloat16 = chosen_dtype(config.learner.dtype, gpu=True) == "bfloat16"
    learner = _Speed(gpu, config.learner.ranks, bfloat16=in_bfloat16)
    # The head multiplies in float32 (`agent_rl.learner.scoring`).
    head = _Speed(gpu, config.learner.ranks, bfloat16=False)
    optimizer_steps = config.learner.optimizer_steps
    moved = _OPTIMIZER_BYTES * shape.trained(config.model.lora) * optimizer_steps
    return [
        engine.part("prefill", _forward(shape, load) * load.prefilled_tokens),
        _decoding(config, shape, load, engine),
        learner.part("learner, forward only", _forward_passes(config) * _layers(shape, load)),
        learner.part("learner, training", _training_passes(config) * _layers(shape, load)),
        head.part("learner, head in float32", _head_operations(config, shape, load)),
        learner.part("learner, optimizer", 0.0, moved),
    ]


@dataclass(frozen=True)
class _Speed:
    """GPUs that share work."""

    gpu: Gpu
    count: int
    bfloat16: bool

    def part(self, name: str, operations: float, traffic: float = 0.0) -> StepPart:
        peak = self.gpu.bfloat16 if self.bfloat16 else self.gpu.float32
        seconds = max(operations / peak, traffic / self.gpu.bandwidth) / self.count
        return StepPart(name=name, operations=operations, traffic=traffic, seconds=seconds)


def _decoding(config: Config, shape: "ModelShape", load: StepLoad, engine: _Speed) -> StepPart:
    """Return the sampling: each step reads all weights, and the keys and values of its requests."""
    memory = EngineMemory.of(config, shape, load)
    batch = requests_at_once(config, load)
    rounds = -(-load.episodes // (batch * config.serving.replicas))
    steps = rounds * load.turns * load.action_tokens * engine.count
    # On average a request is half as long as at its end.
    traffic = memory.weights + batch * load.sample_tokens / 2 * memory.per_token
    operations = (_forward(shape, load) + 2.0 * shape.head_weights) * load.agent_tokens
    return engine.part("decoding", operations, steps * traffic)


def _layers(shape: "ModelShape", load: StepLoad) -> float:
    """Return the operations of a forward pass over all samples, without the head."""
    return _forward(shape, load) * load.tokens


def _forward(shape: "ModelShape", load: StepLoad) -> float:
    """Return the operations of a token's forward pass: products of matrices, and attention.

    On average a token attends to half of its sample. Scores and values take two operations each.
    """
    attention = 4.0 * shape.layers * shape.queries * load.sample_tokens / 2
    return 2.0 * shape.matrix_weights + attention


def _forward_passes(config: Config) -> int:
    """Return how often samples go through the model without a gradient."""
    learner = config.learner
    old = learner.old_logprobs == "learner" and learner.optimizer_steps > 1
    return int(old) + int(learner.beta > 0)


def _training_passes(config: Config) -> int:
    """Return the cost of training in forward passes; the backward pass costs two.

    Without the gradients of frozen weights it costs one.
    """
    backward = 2 if config.model.lora is None else 1
    return 1 + backward + int(config.learner.activation_checkpointing)


def _head_operations(config: Config, shape: "ModelShape", load: StepLoad) -> float:
    _, several = chunk_rows(config, load, shape.vocabulary)
    backward = 2 if config.model.lora is None else 1
    # Chunks are computed again for the backward pass.
    passes = _forward_passes(config) + 1 + int(several) + backward
    return 2.0 * passes * shape.head_weights * load.agent_tokens
