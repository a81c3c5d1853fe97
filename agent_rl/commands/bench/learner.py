"""`agent-rl bench learner`: the learner's tokens a second, against a bare model and against a plain
padded learner.

All take one optimizer step on the same episodes: ALFWorld's, played by the expert in the model's
tokens.

    learner   `Learner.update`: packed samples, what they begin with alike once, logits of the agent's tokens only
    unshared  the same with `share_prefixes: false`; shown where tasks are played more than once
    bare      the model alone, forwards and backwards, on dense rows, with as many logits as there are agent's tokens.
              The rows are as long as the episode that a token stands in on average (sum of squares over sum), so
              that attention has as much to do as in the episodes
    padded    rows padded to the longest of their batch, an attention mask, all logits, log-softmax, GMPO on top:
              what one would write first
"""

import asyncio
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from agent_rl.config import Config
from agent_rl.config.learner import LearnerSettings
from agent_rl.display import console, progress, say
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.prefix_tree import PrefixTree
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.throughput import peak_flops, peak_memory_bytes
from agent_rl.policy.loading import decoder_and_head, load_policy
from agent_rl.tasks import pick_evenly
from envs import make_env
from rollouts import EpisodeSettings, PromptSettings
from rollouts.mistakes import Mistakes
from rollouts.players import make_player
from rollouts.renderer import make_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.serving.dtypes import chosen_dtype

_REPEATS = 3
_SMALL = {"hidden_size": 256, "layers": 4, "heads": 4, "kv_heads": 4, "intermediate_size": 512}

Step = Callable[[], object]


def bench_learner(
    data: str,
    *,
    model: str | None,
    episodes: int,
    generations: int,
    dtype: str,
    threads: int,
    micro_batch_tokens: int,
    json_file: Path | None,
) -> None:
    """Time them in turn, `_REPEATS` times each, and print medians, ratios and peak memory.

    Raises:
        ValueError: there is no such data or model.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if threads:
        torch.set_num_threads(threads)
    dtype = chosen_dtype(dtype, gpu=torch.cuda.is_available())
    with tempfile.TemporaryDirectory() as folder:
        source = model or _small_policy(data, Path(folder))
        policy, tokenizer = load_policy(source)
        samples = _samples(data, tokenizer, episodes, generations)
        ways = [way for way in WAYS if way != "unshared" or generations > 1]
        name = model or "small, from scratch"
        settings = LearnerSettings.model_validate(
            {
                "dtype": dtype,
                "threads": threads,
                "micro_batch_tokens": micro_batch_tokens,
                "optimizer_steps": 1,
                "learning_rate": 1e-9,
            }
        )
        tokens = sum(len(s.token_ids) - 1 for s in samples)
        agents = sum(s.agent_tokens for s in samples)
        longest = max(len(s.token_ids) for s in samples)
        say(
            f"{name}: {sum(p.numel() for p in policy.parameters()) / 1e6:.1f}M parameters; {len(samples)} episodes, "
            f"{tokens:,} tokens ({agents / tokens:.0%} the agent's), {tokens / len(samples):.0f} on average, "
            f"{longest} at most; {dtype}, {torch.get_num_threads()} threads"
        )
        shared = 1.0 - PrefixTree.of([s.inputs for s in samples]).size / tokens
        say(f"{shared:.0%} of the tokens stand in what another episode begins with too")
        seconds = _seconds(ways, policy, samples, settings)
        memory = {way: _peak_memory(way, source, samples, settings) for way in ways}
        operations = _operations(policy, tokens, agents)
    peak = peak_flops("cuda" if torch.cuda.is_available() else "cpu", dtype)
    numbers = {
        way: {
            "seconds": median,
            "tokens_per_second": tokens / median,
            "of_bare": seconds["bare"] / median,
            "of_padded": seconds["padded"] / median,
            "model_flop_utilisation": operations / median / peak,
            "peak_memory_gib": memory[way] / 2**30,
        }
        for way, median in seconds.items()
    }
    console.print(_table(numbers))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        described = {
            "model": name,
            "episodes": len(samples),
            "generations": generations,
            "tokens": tokens,
            "agent_tokens": agents,
            "shared_prefixes": shared,
            "dtype": dtype,
        }
        json_file.write_text(
            json.dumps({**described, "peak_flops": peak, "ways": numbers}, indent=2) + "\n"
        )


def _learner(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    learner = Learner(model, settings, LearnerContext(total_steps=1))
    return lambda: learner.update(samples)


def _unshared(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    return _learner(model, samples, settings.model_copy(update={"share_prefixes": False}))


def _bare(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    device = _prepared(model)
    tokens = sum(len(s.token_ids) - 1 for s in samples)
    length = round(sum((len(s.token_ids) - 1) ** 2 for s in samples) / tokens)
    rows = max(settings.micro_batch_tokens // length, 1)
    decoder, head = decoder_and_head(model)
    share = sum(s.agent_tokens for s in samples) / tokens
    optimizer = AdamW(model.parameters(), lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        left = tokens
        while left > 0:
            count = min(rows, -(-left // length))
            left -= count * length
            ids_BT = torch.randint(
                int(model.config.vocab_size), (count, length), generator=generator
            ).to(device)
            with torch.autocast(
                device.type, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"
            ):
                hidden_BTH = decoder(input_ids=ids_BT, use_cache=False).last_hidden_state
            agents = round(share * ids_BT.numel())
            logits_NV = head(hidden_BTH.flatten(0, 1)[:agents].to(head.weight.dtype))
            loss = nn.functional.cross_entropy(logits_NV.float(), ids_BT.flatten()[:agents])
            loss.backward()  # type: ignore[no-untyped-call]
        _finish(model, optimizer)

    return step


def _padded(
    model: PreTrainedModel, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> Step:
    device = _prepared(model)
    optimizer = AdamW(model.parameters(), lr=settings.learning_rate)
    longest = max(len(s.token_ids) for s in samples)
    rows = max(settings.micro_batch_tokens // longest, 1)

    def step() -> None:
        for begin in range(0, len(samples), rows):
            chunk = samples[begin : begin + rows]
            ids_BT = _pad([torch.tensor(s.token_ids) for s in chunk]).to(device)
            real_BT = _pad([torch.ones(len(s.token_ids), dtype=torch.long) for s in chunk]).to(
                device
            )
            mask_BT = _pad([torch.tensor(s.action_mask) for s in chunk])[:, 1:].to(device)
            old_BT = _pad([torch.tensor(s.behavior_logprobs) for s in chunk])[:, 1:].to(device)
            advantage_B = torch.tensor([s.advantages[0] for s in chunk], device=device)
            with torch.autocast(
                device.type, dtype=torch.bfloat16, enabled=settings.dtype == "bfloat16"
            ):
                logits_BTV = model(
                    input_ids=ids_BT, attention_mask=real_BT, use_cache=False
                ).logits[:, :-1]
            new_BT = logits_BTV.float().log_softmax(-1).gather(-1, ids_BT[:, 1:, None]).squeeze(-1)
            x_BT = new_BT - old_BT
            c_BT = torch.where(advantage_B[:, None] > 0, x_BT.clamp(max=0.4), x_BT.clamp(min=-0.4))
            weight_B = ((c_BT * mask_BT).sum(1) / mask_BT.sum(1)).exp()
            (-(advantage_B * weight_B).sum() / len(samples)).backward()  # type: ignore[no-untyped-call]
        _finish(model, optimizer)

    return step


WAYS: dict[str, Callable[[PreTrainedModel, Sequence[TrainingSample], LearnerSettings], Step]] = {
    "learner": _learner,
    "unshared": _unshared,
    "bare": _bare,
    "padded": _padded,
}


def _prepared(model: PreTrainedModel) -> torch.device:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()  # type: ignore[arg-type]
    model.set_attn_implementation("sdpa")
    return device


def _finish(model: PreTrainedModel, optimizer: AdamW) -> None:
    float(nn.utils.clip_grad_norm_(model.parameters(), 1.0))
    optimizer.step()
    optimizer.zero_grad()


def _pad(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True)


def _seconds(
    ways: Sequence[str],
    model: PreTrainedModel,
    samples: Sequence[TrainingSample],
    settings: LearnerSettings,
) -> dict[str, float]:
    """Each way's median; they take turns, so that a machine's slow minute meets all of them."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    with progress("steps", _REPEATS * len(ways)) as advance:
        for _ in range(_REPEATS):
            for way in ways:
                step = WAYS[way](model, samples, settings)
                if not taken[way]:
                    step()  # what is built once is not timed
                begin = time.perf_counter()
                step()
                taken[way].append(time.perf_counter() - begin)
                advance(way)
    return {way: statistics.median(values) for way, values in taken.items()}


def _peak_memory(
    way: str, source: str, samples: Sequence[TrainingSample], settings: LearnerSettings
) -> int:
    """Bytes at most, the model's own included, in a process that does nothing else."""
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
    """Of one step: two for each weight of a matrix, forwards once and backwards twice."""
    decoder, head = decoder_and_head(model)
    weights = sum(
        module.weight.numel() for module in decoder.modules() if isinstance(module, nn.Linear)
    )
    return 6.0 * (weights * tokens + head.weight.numel() * agents)


def _small_policy(data: str, folder: Path) -> str:
    from agent_rl.commands.stages.init import init

    config = Config.model_validate(
        {
            "run_folder": str(folder),
            "model": _SMALL,
            "env": {"id": "alfworld", "options": {"data": data}},
        }
    )
    return str(init(config))


def _samples(
    data: str, tokenizer: PreTrainedTokenizerBase, episodes: int, generations: int
) -> list[TrainingSample]:
    """The expert's episodes, with other mistakes in each of a task's `generations`.

    Advantages and old log-probs are drawn: what they are costs no time.
    """
    env = make_env("alfworld", data=data, expert=True)
    renderer = make_renderer(tokenizer, PromptSettings())
    settings = EpisodeSettings(max_turns=50)
    rng = random.Random(0)
    samples = []
    with progress("the expert plays", episodes) as advance:
        tasks = pick_evenly(env.tasks("train"), -(-episodes // generations), 0)
        for task, seed in list(product(tasks, range(generations)))[:episodes]:
            player = make_player("expert", env, task, seed)
            mistakes = Mistakes(0.1, seed=seed)
            played = asyncio.run(
                run_scripted_episode(env, task, player, renderer, settings, mistakes=mistakes)
            )
            samples.append(
                TrainingSample(
                    token_ids=played.token_ids,
                    action_mask=played.action_mask,
                    behavior_logprobs=tuple(
                        -3.0 * rng.random() if bit else 0.0 for bit in played.action_mask
                    ),
                    advantages=(rng.choice([-1.0, 1.0]),) * len(played.turns),
                )
            )
            advance(task.family)
    env.close()
    return samples


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
