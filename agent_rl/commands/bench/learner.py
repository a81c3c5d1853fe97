"""`agent-rl bench learner`: the learner's tokens a second and memory, against three others.

All take one optimizer step on the same episodes: ALFWorld's, played by the expert in the model's
tokens. `learner_steps` describes the implementations: `learner`, `unshared`, `bare`, `padded`.
"""

import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from agent_rl.commands.bench.learner_steps import WAYS
from agent_rl.commands.bench.small_policy import make_small_policy, small_config
from agent_rl.config.learner import LearnerSettings
from agent_rl.display import console, percent, progress, say
from agent_rl.files import write_json
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.throughput import peak_flops, peak_memory_bytes
from agent_rl.policy.experts import active_matrix_weights
from agent_rl.policy.loading import decoder_and_head, load_policy
from agent_rl.tasks import pick_evenly
from envs import make_env
from rollouts import EpisodeSettings, PromptSettings, Trajectory
from rollouts.mistakes import Mistakes
from rollouts.players import make_player
from rollouts.processes.loops import run
from rollouts.renderer import make_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.serving.dtypes import chosen_dtype

_REPEATS = 3
"""How often each implementation is timed, to take the median."""


@dataclass(frozen=True, kw_only=True)
class LearnerBench:
    """What to measure."""

    data: str
    """A folder of ALFWorld games, or `generated`."""
    model: str | None
    """A folder, hub name or .gguf file; None: a small policy from scratch."""
    episodes: int
    """The episodes of the optimizer step."""
    generations: int
    """The episodes of each task; they begin alike."""
    dtype: str
    """`learner.dtype`."""
    threads: int
    """Torch's threads on CPU; 0: its own choice."""
    micro_batch_tokens: int
    """`learner.micro_batch_tokens`."""

    def settings(self) -> LearnerSettings:
        """The learner's settings."""
        return LearnerSettings.model_validate(
            {
                "dtype": chosen_dtype(self.dtype, gpu=torch.cuda.is_available()),
                "threads": self.threads,
                "micro_batch_tokens": self.micro_batch_tokens,
                "optimizer_steps": 1,
                # So small that all repeats have the same weights.
                "learning_rate": 1e-9,
            }
        )


@dataclass(frozen=True, kw_only=True)
class _Load:
    """The work of the optimizer step."""

    model: str
    episodes: int
    generations: int
    tokens: int
    agent_tokens: int
    shared_prefixes: float
    dtype: str

    @classmethod
    def of(cls, bench: LearnerBench, samples: Sequence[TrainingSample], dtype: str) -> "_Load":
        tokens = sum(len(sample.inputs) for sample in samples)
        nodes = PrefixTree.of([sample.inputs for sample in samples]).size
        return cls(
            model=bench.model or "small, from scratch",
            episodes=len(samples),
            generations=bench.generations,
            tokens=tokens,
            agent_tokens=sum(sample.agent_tokens for sample in samples),
            shared_prefixes=1.0 - nodes / tokens,
            dtype=dtype,
        )


def bench_learner(bench: LearnerBench, json_file: Path | None) -> None:
    """Time all implementations in turn; print medians, ratios and peak memory.

    Raises:
        ValueError: there is no such data or model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if bench.threads:
        torch.set_num_threads(bench.threads)
    settings = bench.settings()
    with tempfile.TemporaryDirectory() as folder:
        source = bench.model or _small_policy(bench.data, Path(folder))
        policy, tokenizer = load_policy(source)
        samples = _samples(bench, tokenizer)
        load = _Load.of(bench, samples, settings.dtype)
        _describe(load, policy, samples)
        # Without common beginnings `unshared` is the same as `learner`.
        ways = [way for way in WAYS if way != "unshared" or bench.generations > 1]
        seconds = _seconds(ways, policy, samples, settings)
        memory = {way: _peak_memory(way, source, samples, settings) for way in ways}
        operations = _operations(policy, load.tokens, load.agent_tokens)
    peak = peak_flops("cuda" if torch.cuda.is_available() else "cpu", settings.dtype)
    numbers = {}
    for way, median in seconds.items():
        numbers[way] = {
            "seconds": median,
            "tokens_per_second": load.tokens / median,
            "of_bare": seconds["bare"] / median,
            "of_padded": seconds["padded"] / median,
            "model_flop_utilisation": operations / median / peak,
            "peak_memory_gib": memory[way] / 2**30,
        }
    console.print(_table(numbers))
    if json_file is not None:
        write_json(json_file, {**asdict(load), "peak_flops": peak, "ways": numbers})


def _describe(load: _Load, policy: PreTrainedModel, samples: Sequence[TrainingSample]) -> None:
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    longest = max(len(sample.token_ids) for sample in samples)
    say(
        f"{load.model}: {parameters / 1e6:.1f}M parameters; {load.episodes} episodes, "
        f"{load.tokens:,} tokens ({percent(load.agent_tokens / load.tokens, 0)} % the agent's), "
        f"{load.tokens / load.episodes:.0f} on average, {longest} at most; {load.dtype}, "
        f"{torch.get_num_threads()} threads"
    )
    say(f"{percent(load.shared_prefixes, 0)} % of the tokens are in a prefix that episodes share")


def _seconds(
    ways: Sequence[str],
    model: PreTrainedModel,
    samples: Sequence[TrainingSample],
    settings: LearnerSettings,
) -> dict[str, float]:
    """The median seconds of each implementation.

    They take turns: a slow minute of the machine then hits all of them.
    """
    times: dict[str, list[float]] = {way: [] for way in ways}
    with progress("steps", _REPEATS * len(ways)) as advance:
        for _ in range(_REPEATS):
            for way in ways:
                step = WAYS[way](model, samples, settings)
                if not times[way]:
                    # The first step also builds kernels and buffers: it is not timed.
                    step()
                begin = time.perf_counter()
                step()
                times[way].append(time.perf_counter() - begin)
                advance(way)
    return {way: statistics.median(values) for way, values in times.items()}


def _peak_memory(
    way: str, source: str, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> int:
    """The peak in bytes, the model's own included, in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure_memory, way, source, samples, settings).result()


def _measure_memory(
    way: str, source: str, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> int:
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    step = WAYS[way](load_policy(source)[0], samples, settings)
    step()
    return peak_memory_bytes(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def _operations(model: PreTrainedModel, tokens: int, agents: int) -> float:
    """The floating-point operations of one step, without attention.

    Two for each weight of a matrix and token, once forward and twice backward. The head sees the
    agent's tokens only.
    """
    decoder, head = decoder_and_head(model)
    weights = active_matrix_weights(model, decoder)
    return 6.0 * (weights * tokens + head.weight.numel() * agents)


def _small_policy(data: str, folder: Path) -> str:
    """Make a small policy with a tokenizer of ALFWorld's texts; returns its folder."""
    world = ["env.id=alfworld", f"env.options.data={json.dumps(data)}"]
    return make_small_policy(small_config(folder, world))


def _samples(bench: LearnerBench, tokenizer: PreTrainedTokenizerBase) -> list[TrainingSample]:
    """The expert's episodes; the generations of a task differ in their mistakes."""
    env = make_env("alfworld", data=bench.data, expert=True)
    renderer = make_renderer(tokenizer, PromptSettings())
    settings = EpisodeSettings(max_turns=50)
    rng = random.Random(0)
    tasks = pick_evenly(env.tasks("train"), -(-bench.episodes // bench.generations), 0)
    played = list(product(tasks, range(bench.generations)))[: bench.episodes]
    samples = []
    with progress("the expert plays", len(played)) as advance:
        for task, seed in played:
            player = make_player("expert", env, task, seed)
            mistakes = Mistakes(0.1, seed=seed)
            episode = run_scripted_episode(env, task, player, renderer, settings, mistakes=mistakes)
            samples.append(_sample(run(episode), rng))
            advance(task.family)
    env.close()
    return samples


def _sample(episode: Trajectory, rng: random.Random) -> TrainingSample:
    """A sample with random advantages and old log-probs: their values cost no time."""
    logprobs = [-3.0 * rng.random() if is_agent else 0.0 for is_agent in episode.action_mask]
    return TrainingSample(
        token_ids=episode.token_ids,
        action_mask=episode.action_mask,
        behavior_logprobs=tuple(logprobs),
        advantages=(rng.choice([-1.0, 1.0]),) * len(episode.turns),
    )


def _table(numbers: dict[str, dict[str, float]]) -> Table:
    table = Table("", *numbers, title="One optimizer step, medians", title_justify="left")
    rows = {
        "seconds": ("seconds", ".2f"),
        "tokens a second": ("tokens_per_second", ",.0f"),
        "of bare": ("of_bare", ".2f"),
        "of padded": ("of_padded", ".2f"),
        "FLOP utilisation": ("model_flop_utilisation", ".0%"),
        "peak memory, GiB": ("peak_memory_gib", ".2f"),
    }
    for label, (key, form) in rows.items():
        table.add_row(label, *(format(values[key], form) for values in numbers.values()))
    return table
