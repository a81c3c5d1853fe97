"""`agent-rl bench gpu`: what to know of a GPU in its first minutes, with random weights.

It checks attention and the engine's log-probs, tries the formats of the head, and compares memory
and time of a rollout step with the estimate. One engine starts, and the learner runs in this
process. With a tiny shape the same runs on a CPU.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from agent_rl.commands.bench.gpu.checks import (
    DeviceCheck,
    attention_checks,
    logprobs_of,
    mean_difference,
    move_every_weight,
)
from agent_rl.commands.bench.gpu.gpus import gpu_seen
from agent_rl.commands.bench.gpu.heads import HeadErrors, head_errors
from agent_rl.commands.bench.gpu.load import StepLoad
from agent_rl.commands.bench.gpu.memory import GIB, LearnerMemory
from agent_rl.commands.bench.gpu.seconds import parts_of
from agent_rl.commands.bench.gpu.shapes import PUBLISHED, ModelShape, shape_of
from agent_rl.commands.bench.gpu.tensor_memory import MemoryMeter, memory_meter
from agent_rl.commands.bench.rollout import default_config
from agent_rl.commands.bench.small_policy import make_small_policy
from agent_rl.config import Config, ConfigError
from agent_rl.config.model import ModelSettings
from agent_rl.display import console, percent, say
from agent_rl.files import write_json
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample, samples_from_group
from agent_rl.policy.from_scratch import llama_config
from agent_rl.policy.loading import load_policy
from agent_rl.policy.weight_sync import ServingCopy
from agent_rl.training.session import Session
from rollouts import TrajectoryGroup

TINY = "tiny"
_NEAR = 0.05
"""The largest mean difference of the engine's and the learner's log-probs, in nats."""
_MOVED = 3.0
"""How much more than that difference an update must move log-probs, for the check to say much."""
_MEMORY_OFF = 0.25
"""How far memory may be from the estimate, as a share of it."""

_HEAD = (
    "The learner multiplies in float32. TF32 or bfloat16 may take its place if it is as near to "
    "the engine, and faster, on a GPU."
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model's shape, and the run that checks it."""

    model: PreTrainedConfig
    """Sizes; the weights are random."""
    settings: tuple[str, ...]
    """`key.path=value`, of the rollout step."""
    prompt: int
    """Tokens of the beginning that samples of the check of attention share."""


_COMMON = (
    # Random commands are all wrong: an episode takes all of its turns.
    "learner.optimizer_steps=2",
    "learner.learning_rate=1e-4",
    "learner.activation_checkpointing=true",
)
SHAPES = {
    "qwen2.5-1.5b": Shape(
        model=PUBLISHED["Qwen/Qwen2.5-1.5B-Instruct"],
        settings=(
            *_COMMON,
            "episode.max_turns=8",
            "episode.max_action_tokens=64",
            "train.tasks_per_step=16",
            "train.num_generations=8",
            "workers.count=8",
            "workers.envs_per_worker=16",
            "serving.max_concurrent=128",
            "serving.gpu_memory_utilization=0.3",
            "serving.context_length=4096",
            "learner.micro_batch_tokens=16384",
            "learner.logit_chunk=2048",
        ),
        prompt=1024,
    ),
    TINY: Shape(
        model=llama_config(
            ModelSettings(
                hidden_size=128,
                layers=4,
                heads=4,
                kv_heads=2,
                intermediate_size=384,
                context_length=1024,
                tied=True,
            ),
            4096,
        ),
        settings=(
            *_COMMON,
            "episode.max_turns=4",
            "episode.max_action_tokens=16",
            "train.tasks_per_step=3",
            "train.num_generations=4",
            "workers.count=1",
            "workers.envs_per_worker=12",
            "serving.kv_cache_gib=0.25",
            "learner.micro_batch_tokens=1024",
            "learner.logit_chunk=128",
        ),
        prompt=48,
    ),
}
"""The shapes by their names on the command line."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measurements of two rollout steps."""

    checks: list[DeviceCheck]
    """Parity and memory."""
    heads: list[HeadErrors]
    """The formats of the head."""
    memory: dict[str, tuple[float, float]]
    """Bytes by phase: measured, and estimated."""
    seconds: dict[str, float]
    """The second step's time by part."""
    load: StepLoad
    """Its tokens."""


def bench_gpu(name: str, json_file: Path | None) -> bool:
    """Run all checks and print them; returns whether all were right.

    Args:
        name: of `SHAPES`.
        json_file: the file for the numbers, or None.

    Raises:
        ConfigError: there is no GPU, and the shape is not `tiny`.
    """
    on_gpu = torch.cuda.is_available()
    if not on_gpu and name != TINY:
        raise ConfigError(
            "torch sees no GPU here; `agent-rl bench gpu --shape tiny` runs the same checks on the "
            "CPU, and `--estimate CONFIG` needs none"
        )
    shape = SHAPES[name]
    device = torch.device("cuda" if on_gpu else "cpu")
    title = torch.cuda.get_device_name() if on_gpu else "no GPU: a CPU, whose kernels are others"
    say(f"shape {name}, random weights, on {title}")
    checks = attention_checks(shape.model, _forked(shape.prompt), device)
    with tempfile.TemporaryDirectory() as folder:
        config = default_config(Path(folder), shape.settings)
        _, tokenizer = load_policy(make_small_policy(config))
        measured = _two_steps(config, shape, tokenizer)
    sizes = shape_of(shape.model)
    checks += measured.checks
    estimated = _estimated_seconds(config, sizes, measured.load, title)
    console.print(check_table(checks))
    console.print(head_table(measured.heads))
    say(_HEAD)
    console.print(_memory_table(measured.memory))
    console.print(_time_table(measured, estimated))
    if json_file is not None:
        passed = [{**asdict(check), "ok": check.ok} for check in checks]
        write_json(json_file, {"device": title, **asdict(measured), "checks": passed})
        say(f"written to {json_file}")
    return all(check.ok for check in checks)


def _forked(prompt: int) -> list[list[int]]:
    """Samples that begin alike, fork twice, and one that is apart."""
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> list[int]:
        return torch.randint(1000, (count,), generator=generator).tolist()

    begin, turn = drawn(prompt), drawn(prompt // 2)
    forks = [begin + turn + drawn(prompt // 3), begin + turn + drawn(prompt // 4)]
    return [*forks, begin + drawn(prompt // 2 + 1), begin, drawn(prompt // 2)]


def _two_steps(config: Config, shape: Shape, tokenizer: PreTrainedTokenizerBase) -> Measured:
    """Take two rollout steps: the first one warms up, and all weights move between them."""
    sizes = shape_of(shape.model)
    model_config = _with_tokens(shape.model, tokenizer)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(model_config)  # type: ignore[no-untyped-call]
    copy = ServingCopy(model, tokenizer, config.serving.dtype)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with (
        closing(copy),
        Session(config, copy.folder, train=True) as session,
        memory_meter(device, model.parameters()) as meter,
    ):
        session.serve(copy)
        learner = Learner(model, config.learner, _context(config))
        loaded = meter.now
        first = _play(session, 0)
        before = mean_difference(learner, _samples(first))
        unmoved = logprobs_of(learner, _samples(first))
        learner.update(_samples(first))
        move_every_weight(learner.model)
        moved = float((logprobs_of(learner, _samples(first)) - unmoved).abs().mean())
        session.sync()
        return _second_step(session, learner, meter, sizes, (loaded, before, moved))


def _second_step(
    session: Session,
    learner: Learner,
    meter: MemoryMeter,
    sizes: ModelShape,
    first: tuple[int, float, float],
) -> Measured:
    """Take the step that is measured.

    Args:
        first: of the first step: bytes of the weights, the difference to the engine's log-probs,
            and how far the update moved log-probs.
    """
    loaded, before, moved = first
    config = session.config
    begin = time.perf_counter()
    groups = _play(session, 1)
    played = time.perf_counter()
    samples = _samples(groups)
    after = mean_difference(learner, samples)
    heads = head_errors(learner, samples)
    between = meter.now
    meter.reset()
    learning = time.perf_counter()
    learner.update(samples)
    peak = meter.peak
    learned = time.perf_counter()
    session.sync()
    synced = time.perf_counter()
    load = load_of(groups)
    estimate = LearnerMemory.of(config, sizes, load, gpu=learner.device.type == "cuda")
    memory = {
        "weights": (float(loaded), estimate.weights),
        "between updates": (float(between), estimate.between_updates),
        "peak of an update": (float(peak), estimate.peak),
    }
    checks = [
        DeviceCheck(name="engine to learner, nats, before", value=before, limit=_NEAR),
        DeviceCheck(name="engine to learner, nats, all weights moved", value=after, limit=_NEAR),
        # Else an engine with the old weights would pass as well.
        DeviceCheck(name="the same, to the move", value=after / moved, limit=1.0 / _MOVED),
    ]
    for phase, (found, expected) in memory.items():
        off = abs(found / expected - 1.0)
        checks.append(DeviceCheck(name=f"memory, {phase}, off by", value=off, limit=_MEMORY_OFF))
    seconds = {
        "rollout": played - begin,
        "learner": learned - learning,
        "sync of the weights": synced - learned,
    }
    return Measured(checks=checks, heads=heads, memory=memory, seconds=seconds, load=load)


def _with_tokens(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """Return a model's config with the special tokens of a tokenizer, which may have fewer ids."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    return type(config).from_dict({**config.to_dict(), **ids})


def _context(config: Config) -> LearnerContext:
    return LearnerContext(
        total_steps=2 * config.learner.optimizer_steps, temperature=config.train.temperature
    )


def _play(session: Session, step: int) -> list[TrajectoryGroup]:
    session.usage()  # the engine starts, if it has not yet: that is not the time of a step
    train = session.config.train
    tasks = session.tasks(session.config.env.train_split)[: train.tasks_per_step]
    return session.play(
        tasks,
        f"rollout step {step + 1}",
        group_size=train.num_generations,
        temperature=train.temperature,
        seed=step,
    )


def _samples(groups: Sequence[TrajectoryGroup]) -> list[TrainingSample]:
    """The samples with advantages of both signs: random episodes all have the same return."""
    samples = [sample for group in groups for sample in samples_from_group(group)]
    return [
        replace(sample, advantages=((-1.0) ** number,) * sample.turns)
        for number, sample in enumerate(samples)
    ]


def load_of(groups: Sequence[TrajectoryGroup]) -> StepLoad:
    """Return the load that episodes had, on average."""
    episodes = [episode for group in groups for episode in group.trajectories if episode.turns]
    turns = sum(len(episode.turns) for episode in episodes)
    tokens = sum(len(episode.token_ids) for episode in episodes)
    agent_tokens = sum(sum(episode.action_mask) for episode in episodes)
    return StepLoad(
        episodes=len(episodes),
        turns=round(turns / len(episodes)),
        observation_tokens=round((tokens - agent_tokens) / turns),
        action_tokens=round(agent_tokens / turns),
    )


def _estimated_seconds(
    config: Config, sizes: ModelShape, load: StepLoad, title: str
) -> dict[str, float]:
    """The seconds of rollout and learner at the GPU's peak; empty if the table lacks it."""
    gpu = gpu_seen(title)
    if gpu is None:
        return {}
    parts = parts_of(config, sizes, load, gpu)
    learner = sum(part.seconds for part in parts if part.name.startswith("learner"))
    return {"rollout": sum(part.seconds for part in parts) - learner, "learner": learner}


def check_table(checks: Sequence[DeviceCheck]) -> Table:
    """The checks, with what is wrong."""
    table = _table("Checks", "value", "at most", "")
    for check in checks:
        mark = "right" if check.ok else "WRONG"
        table.add_row(check.name, f"{check.value:.2g}", f"{check.limit:.2g}", mark)
    return table


def head_table(heads: Sequence[HeadErrors]) -> Table:
    """The formats of the head: errors in nats."""
    names = ("mean error", "largest error", "to the engine", "s, scoring")
    table = _table("The head's product: log-probs against float32, in nats", *names)
    for row in heads:
        numbers = [f"{row.mean_error:.1e}", f"{row.largest_error:.1e}"]
        numbers += [f"{row.to_engine:.2e}", f"{row.seconds:.2f}"]
        table.add_row(row.name, *numbers)
    return table


def _memory_table(memory: dict[str, tuple[float, float]]) -> Table:
    table = _table("The learner's memory, MiB", "measured", "estimated")
    for phase, sizes in memory.items():
        table.add_row(phase, *(f"{1024 * size / GIB:,.1f}" for size in sizes))
    return table


def _time_table(measured: Measured, estimated: dict[str, float]) -> Table:
    load, whole = measured.load, sum(measured.seconds.values())
    title = (
        f"A rollout step: {load.episodes} episodes of {load.turns} turns of "
        f"{load.observation_tokens} + {load.action_tokens} tokens"
    )
    table = _table(title, "s", "%", "s at the GPU's peak")
    for part, seconds in measured.seconds.items():
        peak: Any = estimated.get(part)
        shown = "" if peak is None else f"{peak:.2f}"
        table.add_row(part, f"{seconds:.2f}", percent(seconds / whole), shown)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table
