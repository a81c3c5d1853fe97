"""`agent-rl bench gpu --estimate CONFIG`: memory and seconds of a rollout step, without running it.

Needs no GPU and no weights.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from agent_rl.commands.bench.gpu.gpus import Gpu
from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import (
    CONTEXT,
    ENGINE_ROOM,
    GIB,
    EngineMemory,
    LearnerMemory,
)
from agent_rl.commands.bench.gpu.seconds import StepPart, parts_of
from agent_rl.commands.bench.gpu.shapes import ModelShape, model_config_of, shape_of
from agent_rl.config import Config
from agent_rl.display import console, say
from agent_rl.files import write_json

_LEARNER = {
    "weights": "weights, float32",
    "reference": "the policy that beta compares with",
    "gradients": "gradients, float32",
    "moments": "moments of the optimizer, float32",
    "activations": "activations of a pass",
    "layer": "a layer that is computed again",
    "copies": "weights in the format of the products",
    "logits": "logits of a chunk and their copies (or the layer above)",
    "optimizer": "the optimizer's step (or a pass)",
}
"""The fields of `LearnerMemory`, and their titles."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The memory and the time of a rollout step."""

    gpu: Gpu
    """The GPU; all are alike."""
    load: StepLoad
    """The tokens."""
    learner: LearnerMemory
    """The memory of one of the learner's processes."""
    engine: EngineMemory
    """The memory of one of an engine's processes."""
    parts: list[StepPart]
    """Where the time goes."""
    shared: bool
    """Whether learner and engine share one GPU."""
    sleeps: bool
    """Whether they have it in turn (`serving.sleep`)."""
    engine_share: float
    """`serving.gpu_memory_utilization`."""

    @classmethod
    def of(cls, config: Config, shape: ModelShape, load: StepLoad, gpu: Gpu) -> Self:
        """Work it out."""
        return cls(
            gpu=gpu,
            load=load,
            learner=LearnerMemory.of(config, shape, load),
            engine=EngineMemory.of(config, shape, load),
            parts=parts_of(config, shape, load, gpu),
            shared=config.serving.gpus == config.learner.ranks == 1,
            sleeps=config.serving.sleep,
            engine_share=config.serving.gpu_memory_utilization,
        )

    @property
    def memory(self) -> float:
        """The bytes of the GPU."""
        return self.gpu.memory_gib * GIB

    @property
    def reserved(self) -> float:
        """What an engine's process takes, whether it needs it or not."""
        return self.engine_share * self.memory

    @property
    def learner_gpu(self) -> float:
        """The most that is taken at one time of a GPU with a process of the learner."""
        alone = self.learner.peak + CONTEXT
        if not self.shared:
            return alone
        if self.sleeps:
            playing = self.learner.between_updates + self.reserved + CONTEXT
            return max(alone, playing) + CONTEXT
        return alone + self.reserved + CONTEXT

    @property
    def fits(self) -> bool:
        """Whether the learner's GPU has room, and the engine for all requests at one time."""
        return self.learner_gpu <= self.memory and self.engine.needed <= self.reserved

    @property
    def seconds(self) -> float:
        """The time of a rollout step at the GPUs' peak."""
        return sum(part.seconds for part in self.parts)


def bench_estimate(
    config: Config, gpu: Gpu, *, of_peak: float, json_file: Path | None, **load: int | None
) -> None:
    """Print the estimate for a config.

    Args:
        of_peak: the share of the GPU's peak that programs reach.
        load: arguments of `StepLoad.of` that are known.

    Raises:
        ValueError: there is no such model, or no turn fits into its context.
    """
    shape = shape_of(model_config_of(config))
    given = {name: value for name, value in load.items() if value is not None}
    estimate = Estimate.of(config, shape, StepLoad.of(config, shape.context, **given), gpu)
    say(described(config, shape, estimate))
    console.print(memory_table(estimate))
    say(verdict(estimate))
    console.print(time_table(estimate, of_peak))
    if json_file is not None:
        write_json(json_file, record(estimate, of_peak))
        say(f"written to {json_file}")


def described(config: Config, shape: ModelShape, estimate: Estimate) -> str:
    """What the estimate is of."""
    load = estimate.load
    model = config.model.path or "a model from scratch"
    own = "" if load.shown_turns is None else f" ({load.samples:,} samples, a prompt for each turn)"
    return (
        f"{model}: {shape.parameters / 1e9:.3f} billion weights, on {estimate.gpu.title}\n"
        f"a rollout step: {load.episodes} episodes of {load.turns} turns of "
        f"{load.observation_tokens} + {load.action_tokens} tokens, {load.tokens:,} to learn "
        f"from{own}"
    )


def memory_table(estimate: Estimate) -> Table:
    """The memory of the learner's GPU and of an engine's, in GiB."""
    table = _table("Memory of a GPU", "GiB")
    for field, title in _LEARNER.items():
        if value := getattr(estimate.learner, field):
            table.add_row(f"learner: {title}", _gib(value))
    table.add_row("learner at its peak", _gib(estimate.learner.peak), end_section=True)
    engine = estimate.engine
    table.add_row("engine: weights", _gib(engine.weights))
    table.add_row(
        f"engine: keys and values, {engine.per_token / 1024:.1f} KiB a token", _gib(engine.cache)
    )
    table.add_row("engine: its own room (a guess)", _gib(ENGINE_ROOM))
    table.add_row("engine, if all requests have room", _gib(engine.needed))
    share = f"engine takes {estimate.engine_share:g} of {estimate.gpu.memory_gib:g} GiB"
    table.add_row(share, _gib(estimate.reserved), end_section=True)
    together = "learner, engine and CUDA" if estimate.shared else "learner's GPU, with CUDA"
    in_turn = ", in turn" if estimate.shared and estimate.sleeps else ""
    table.add_row(f"{together}{in_turn} (a guess: 1 GiB a process)", _gib(estimate.learner_gpu))
    return table


def verdict(estimate: Estimate) -> str:
    """Whether the memory is enough, and what to change if it is not."""
    if estimate.fits:
        return f"fits: {_gib(estimate.memory - estimate.learner_gpu)} GiB are left"
    if estimate.learner_gpu > estimate.memory:
        over = _gib(estimate.learner_gpu - estimate.memory)
        return (
            f"does not fit: {over} GiB are missing; lower learner.micro_batch_tokens, "
            "learner.logit_chunk or serving.gpu_memory_utilization, or set "
            "learner.activation_checkpointing, serving.sleep, model.lora or more learner.ranks"
        )
    room = max(estimate.reserved - ENGINE_ROOM - estimate.engine.weights, 0.0)
    requests = int(room / estimate.engine.per_token / estimate.load.sample_tokens)
    return (
        f"fits, but the engine has room for {requests} requests of full length: others wait; "
        "raise serving.gpu_memory_utilization, or play fewer episodes at a time"
    )


def time_table(estimate: Estimate, of_peak: float) -> Table:
    """The work and the seconds of a rollout step's parts."""
    reached = f"at {100 * of_peak:.0f} %"
    table = _table(
        "Time of a rollout step", "TFLOP", "TB", "s at the peak", f"s {reached}", "share"
    )
    for part in estimate.parts:
        numbers = [f"{part.operations / 1e12:,.0f}", f"{part.traffic / 1e12:.1f}"]
        numbers += [f"{part.seconds:.2f}", f"{part.seconds / of_peak:.1f}"]
        table.add_row(part.name, *numbers, f"{part.seconds / estimate.seconds:.0%}")
    whole = [f"{estimate.seconds:.2f}", f"{estimate.seconds / of_peak:.1f}", "100%"]
    table.add_row("in all, one after the other", "", "", *whole)
    return table


def record(estimate: Estimate, of_peak: float) -> dict[str, Any]:
    """The estimate for a file; bytes and seconds."""
    return {
        **asdict(estimate),
        "learner_peak": estimate.learner.peak,
        "learner_gpu": estimate.learner_gpu,
        "engine_needed": estimate.engine.needed,
        "fits": estimate.fits,
        "of_peak": of_peak,
        "seconds": estimate.seconds / of_peak,
    }


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}"
