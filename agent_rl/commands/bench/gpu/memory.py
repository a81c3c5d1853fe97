"""An estimate of memory: what the learner and an engine need of one GPU. Light to import.

All numbers are bytes. The factors of activations and logits were counted: they are what autograd
keeps for the layers of Llama and Qwen2 (`tests/.../test_memory.py` counts again). An engine's own
room and that of a process's CUDA context are guesses.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.config import Config
from rollouts.serving.dtypes import chosen_dtype

if TYPE_CHECKING:
    from agent_rl.commands.bench.gpu.shapes import ModelShape

GIB = 2**30
CONTEXT = GIB
"""A guess: CUDA's context and libraries, in each process."""
ENGINE_ROOM = 2 * GIB
"""A guess: the engine's activations and recorded graphs."""

_SINGLE, _HALF = 4, 2
"""Bytes of a float32, and of a bfloat16 or float16."""
_LOGIT_COPIES = 5
"""The most tensors of rows x vocabulary at one time, in the head's backward pass."""
_ENDS = 4
"""Tensors of tokens x width in float32 before the first layer and after the last one."""


@dataclass(frozen=True, kw_only=True)
class LearnerMemory:
    """What one of the learner's processes needs of its GPU."""

    weights: float
    """Its part of the weights, in float32."""
    reference: float
    """Its part of the policy that `beta` compares with; 0 without one."""
    gradients: float
    """Of its part of the trained weights."""
    moments: float
    """The optimizer's, of its part of the trained weights."""
    activations: float
    """What a micro-batch keeps for its backward pass."""
    layer: float
    """What a layer needs that is computed again; 0 without activation checkpointing."""
    copies: float
    """Weights in the format of the products, and those that FSDP collects from other processes."""
    logits: float
    """Logits of a chunk, with what is computed from them."""
    optimizer: float
    """What the optimizer's step needs for a moment."""

    @classmethod
    def of(cls, config: Config, shape: "ModelShape", load: StepLoad, *, gpu: bool = True) -> Self:
        """Return the estimate for a config.

        Args:
            gpu: whether it is for a GPU; on a CPU, `dtype: auto` may be float32.
        """
        learner, trained = config.learner, shape.trained(config.model.lora)
        bfloat16 = chosen_dtype(learner.dtype, gpu=gpu) == "bfloat16"
        tokens = micro_batch_tokens(config, load)
        layer = tokens * _layer_bytes(shape, bfloat16=bfloat16)
        ends = _ENDS * _SINGLE * shape.hidden * tokens
        checkpointing = learner.activation_checkpointing
        kept = shape.layers * (_SINGLE * shape.hidden * tokens if checkpointing else layer)
        # Muon keeps one moment of a matrix, AdamW two of everything.
        moments = 2 * trained
        if learner.muon_learning_rate is not None:
            moments -= shape.matrix_weights
        whole = shape.parameters * _SINGLE
        referenced = learner.beta > 0 and config.model.lora is None
        return cls(
            weights=whole / learner.ranks,
            reference=whole / learner.ranks if referenced else 0,
            gradients=trained * _SINGLE / learner.ranks,
            moments=moments * _SINGLE / learner.ranks,
            activations=kept + ends,
            layer=layer if checkpointing else 0,
            copies=_copies(config, shape, bfloat16=bfloat16),
            logits=_logits(config, shape, load),
            # PyTorch's AdamW holds one more number for each weight on a GPU, not on a CPU.
            optimizer=trained * _SINGLE / learner.ranks if gpu else 0,
        )

    @property
    def between_updates(self) -> float:
        """What stays while episodes are played."""
        return self.weights + self.reference + self.moments

    @property
    def peak(self) -> float:
        """The most at one time in an update.

        Logits and a layer that is computed again are not there at the same time.
        """
        backward = self.activations + self.copies + max(self.logits, self.layer)
        return self.between_updates + self.gradients + max(backward, self.optimizer)


@dataclass(frozen=True, kw_only=True)
class EngineMemory:
    """What one of an engine's processes needs of its GPU."""

    weights: float
    """Its part of the served weights."""
    cache: float
    """Keys and values of the requests at one time, each at its full length."""
    per_token: float
    """Keys and values of one token."""

    @classmethod
    def of(cls, config: Config, shape: "ModelShape", load: StepLoad, *, gpu: bool = True) -> Self:
        """Return the estimate for a config."""
        serving = config.serving
        is_single = chosen_dtype(serving.dtype, gpu=gpu) == "float32"
        size = _SINGLE if is_single else _HALF
        per_token = 2 * shape.layers * shape.keys * size / serving.tensor_parallel
        return cls(
            weights=shape.served_parameters * size / serving.tensor_parallel,
            cache=requests_at_once(config, load) * load.sample_tokens * per_token,
            per_token=per_token,
        )

    @property
    def needed(self) -> float:
        """The whole of it, with the engine's own room."""
        return self.weights + self.cache + ENGINE_ROOM


def micro_batch_tokens(config: Config, load: StepLoad) -> int:
    """Return the most tokens of a pass with a gradient, which is a part of an optimizer step."""
    learner = config.learner
    of_step = -(-load.tokens // learner.optimizer_steps)
    return max(min(learner.micro_batch_tokens, of_step), load.sample_tokens)


def chunk_rows(config: Config, load: StepLoad, vocabulary: int) -> tuple[int, bool]:
    """Return the most rows with logits at one time, and whether a pass has several chunks."""
    share = load.agent_tokens / load.tokens
    rows = round(micro_batch_tokens(config, load) * share)
    most = config.learner.most_logit_rows(vocabulary)
    return min(rows, most), rows > most


def requests_at_once(config: Config, load: StepLoad) -> int:
    """Return how many requests an engine has at one time, at most."""
    places = config.workers.count * config.workers.envs_per_worker
    episodes = min(places, load.episodes * (1 + config.train.look_ahead))
    return min(-(-episodes // config.serving.replicas), config.serving.max_concurrent)


def _layer_bytes(shape: "ModelShape", *, bfloat16: bool) -> float:
    """Return what autograd keeps of a layer for each token.

    The residual stream and the norms are float32 in any case, and so are rotated queries and keys.
    """
    hidden, queries, keys, inner = (26, 6, 4, 8) if bfloat16 else (24, 12, 8, 16)
    of_widths = hidden * shape.hidden + queries * shape.queries + keys * shape.keys
    return of_widths + inner * shape.inner + 5 * shape.heads


def _copies(config: Config, shape: "ModelShape", *, bfloat16: bool) -> float:
    """Return the bytes of weights besides the process's own part."""
    learner, size = config.learner, _HALF if bfloat16 else _SINGLE
    layer = size * shape.matrix_weights / shape.layers
    if learner.ranks > 1:
        # FSDP collects a layer while the one before is still there, and keeps embedding and head.
        return 2 * layer + _SINGLE * (shape.parameters - shape.matrix_weights)
    if not bfloat16:
        return 0
    # Autocast's copies are kept for the backward pass, unless the layer is computed again.
    return layer if learner.activation_checkpointing else layer * shape.layers


def _logits(config: Config, shape: "ModelShape", load: StepLoad) -> float:
    """Return the bytes of logits, their copies, and the gradient of the head for one more chunk."""
    rows, several = chunk_rows(config, load, shape.vocabulary)
    logits = _LOGIT_COPIES * _SINGLE * rows * shape.vocabulary
    return logits + (_SINGLE * shape.head_weights if several else 0)
