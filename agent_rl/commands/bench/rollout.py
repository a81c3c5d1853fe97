"""`agent-rl bench rollout`: sampled tokens a second of whole rollouts, against three references.

A rollout is what training plays in a step: workers, environments, the engine. `references`
describes what it is compared with, on the turns of the same episodes, in the same minutes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from agent_rl.commands.bench.references import ReferenceProcesses, Way
from agent_rl.commands.bench.rollout_figures import RolloutFigures, figures_of
from agent_rl.commands.bench.small_policy import make_small_policy, small_config
from agent_rl.commands.bench.turns import Load, Replayed
from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import Config, ConfigError
from agent_rl.display import console, percent, progress, say
from agent_rl.files import write_json
from agent_rl.policy.loading import load_policy
from agent_rl.policy.weight_sync import ServingCopy
from agent_rl.tasks import open_environment, pick_evenly, training_tasks
from agent_rl.training.pool import open_pool
from envs import Task
from rollouts import Trajectory
from rollouts.rendering.chat_template import use_template
from rollouts.serving.dtypes import chosen_dtype
from rollouts.workers.pool import RolloutPool

_WORLD = (
    "env.id=alfworld",
    "env.options.data=generated",
    "env.options.games.train=64",
    "env.options.games.valid_seen=8",
    "env.options.games.valid_unseen=0",
)
_EPISODE = ("episode.max_turns=12", "episode.max_action_tokens=12")
"""The demo's."""
_SHARES = {
    "busy": "busy",
    "policy": "policy",
    "engine": "(its\nengine)",
    "environment": "envi-\nronment",
    "worker": "worker",
    "waiting": "waiting",
    "tail": "tail",
}
"""The columns of the second table: fields of `RolloutFigures`, and their titles."""
_MOST_OF_GPU = 0.4
"""The share of a GPU for each of two engines: the pool's, and that of the references."""


@dataclass(frozen=True, kw_only=True)
class RolloutBench:
    """What to measure."""

    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    """Episodes at a time: a row for each."""
    engines: tuple[int, ...] = ()
    """Numbers of engines: these rows for each. Empty: the config's number."""
    rounds: int = 4
    """Episodes of a rollout for each place."""
    repeats: int = 3
    """How often each way is timed, to take the median."""
    generate_seconds: float = 10.0
    """The time of each measurement of transformers' `generate`; 0 leaves it out."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """The references."""
        return ("raw", "lock_step", "generate") if self.generate_seconds else ("raw", "lock_step")


@dataclass(frozen=True, kw_only=True)
class RolloutRow:
    """The measurements at one number of episodes at a time; lists have a value for each repeat."""

    engines: int
    """Number of engines."""
    places: int
    """Episodes at a time."""
    rollouts: list[RolloutFigures]
    """The rollouts."""
    references: dict[Way, list[Replayed]]
    """The other ways, by name."""

    @property
    def rollout_speed(self) -> float:
        """The median of the rollouts' sampled tokens a second."""
        return statistics.median(rollout.tokens_per_second for rollout in self.rollouts)

    def speed(self, way: Way) -> float:
        """The median of another way's sampled tokens a second."""
        return statistics.median(speed_of(replayed) for replayed in self.references[way])

    def ratio(self, way: Way) -> float:
        """The median of the rollout's speed over another way's, in the same repeat."""
        pairs = zip(self.rollouts, self.references[way], strict=True)
        return statistics.median(one.tokens_per_second / speed_of(other) for one, other in pairs)

    def median(self, figure: str) -> float:
        """The median of a figure of the rollouts."""
        return float(statistics.median(getattr(rollout, figure) for rollout in self.rollouts))

    @property
    def raw_cache_hits(self) -> float:
        """The share of the bare engine's prompt ids that were in its prefix cache."""
        raw = self.references["raw"]
        return sum(r.cached_tokens for r in raw) / sum(r.prompt_tokens for r in raw)

    def record(self) -> dict[str, Any]:
        """The row for a file: medians, and what they are of."""
        ways = list(self.references)
        return {
            "engines": self.engines,
            "places": self.places,
            "tokens_per_second": {
                "rollout": self.rollout_speed,
                **{way: self.speed(way) for way in ways},
            },
            "of": {way: self.ratio(way) for way in ways},
            "raw_cache_hits": self.raw_cache_hits,
            "rollouts": [asdict(rollout) for rollout in self.rollouts],
            "references": {
                way: [asdict(replayed) for replayed in self.references[way]] for way in ways
            },
        }


def speed_of(replayed: Replayed) -> float:
    """Return sampled tokens a second."""
    return replayed.tokens / replayed.seconds


def bench_rollout(
    bench: RolloutBench, config: Config | None, overrides: Sequence[str], json_file: Path | None
) -> None:
    """Time rollouts and the references in turn; print medians, ratios and shares of time.

    Args:
        config: its run's newest policy plays in its world; None: a small policy from scratch.
        overrides: settings of the config that is used if there is none.

    Raises:
        ValueError: the config, its policy or its world cannot be used.
    """
    with tempfile.TemporaryDirectory() as folder:
        if config is None:
            config = default_config(Path(folder), overrides)
            source = make_small_policy(config)
        else:
            source = starting_policy(config)
        model, tokenizer = load_policy(source, revision=config.model.revision_of(source))
        use_template(tokenizer, config.prompt)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        setting = _setting(config, source, parameters)
        say(", ".join(f"{key} {value}" for key, value in setting.items()))
        copy = ServingCopy(model, tokenizer, config.serving.dtype)
        try:
            rows = _rows(bench, config, copy.folder)
        finally:
            copy.close()
    for table in (speed_table(rows), time_table(rows)):
        console.print(table)
    if json_file is not None:
        record = {**setting, **asdict(bench), "rows": [row.record() for row in rows]}
        write_json(json_file, record)
        say(f"written to {json_file}")


def default_config(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """A small policy in generated games, or in the world that `overrides` name.

    Raises:
        ConfigError: an override is wrong.
    """
    elsewhere = any(override.startswith("env.id=") for override in overrides)
    world = () if elsewhere else _WORLD
    return small_config(folder, [*world, *_EPISODE, *overrides])


def with_places(config: Config, places: int, engines: int) -> Config:
    """Return the config with so many episodes at a time, on as many of its workers as divide them.

    Raises:
        ConfigError: `engines` is above 1, and there is no setting for that.
    """
    count = max(n for n in range(1, config.workers.count + 1) if places % n == 0)
    changes = {"count": count, "envs_per_worker": places // count}
    workers = config.workers.model_copy(update=changes)
    serving: dict[str, Any] = {}
    if "replicas" in type(config.serving).model_fields:
        serving["replicas"] = engines
    elif engines > 1:
        raise ConfigError(f"--engines {engines}: a rollout has one engine; leave the option out")
    if torch.cuda.is_available():
        memory = min(config.serving.gpu_memory_utilization, _MOST_OF_GPU)
        serving["gpu_memory_utilization"] = memory
    return config.model_copy(
        update={"workers": workers, "serving": config.serving.model_copy(update=serving)}
    )


def groups_of(tasks: Sequence[Task], episodes: int, group_size: int) -> tuple[list[Task], int]:
    """Return tasks, and how often to play each: at least `episodes` together.

    A group is no larger than all episodes. Tasks come again if there are too few.
    """
    size = min(group_size, episodes)
    count = -(-episodes // size)
    picked = pick_evenly(tasks, count, seed=0)
    return [picked[n % len(picked)] for n in range(count)], size


def _rows(bench: RolloutBench, config: Config, folder: Path) -> list[RolloutRow]:
    env = open_environment(config)
    tasks = training_tasks(config, env.tasks)
    env.close()
    engines = bench.engines or (getattr(config.serving, "replicas", 1),)
    cases = [
        (with_places(config, places, count), count, places)
        for count in engines
        for places in bench.concurrency
    ]
    rows = []
    pieces = len(cases) * (1 + bench.repeats * (1 + len(bench.ways)))
    with (
        progress("measuring", pieces) as advance,
        ReferenceProcesses(cases[0][0], folder, max(engines)) as references,
    ):
        for case, count, places in cases:
            with open_pool(case, folder, serve=True) as pool:
                measuring = _Measuring(bench, case, tasks, pool, references, folder)
                note = f"{places} at a time"
                rows.append(measuring.row(count, places, partial(advance, note)))
    return rows


@dataclass(frozen=True)
class _Measuring:
    """Measures one row."""

    bench: RolloutBench
    config: Config
    tasks: Sequence[Task]
    pool: RolloutPool
    references: ReferenceProcesses
    folder: Path

    def row(self, engines: int, places: int, advance: Callable[[], None]) -> RolloutRow:
        self._rollout(places, places)  # not timed: the first requests are slow
        advance()
        rollouts: list[RolloutFigures] = []
        replayed: dict[Way, list[Replayed]] = {way: [] for way in self.bench.ways}
        for repeat in range(self.bench.repeats):
            # Empties the prefix cache, as each update of the weights does.
            self.pool.sync_weights(self.folder, repeat + 1)
            episodes, figures = self._rollout(places, self.bench.rounds * places)
            rollouts.append(figures)
            advance()
            load = Load(
                episodes=episodes,
                places=places,
                temperature=self.config.train.temperature,
                seed=self.config.seed,
            )
            limit = self.bench.generate_seconds
            for way in self.bench.ways:
                played = self.references.play(way, load, engines=engines, limit_seconds=limit)
                replayed[way].append(played)
                advance()
        return RolloutRow(engines=engines, places=places, rollouts=rollouts, references=replayed)

    def _rollout(self, places: int, episodes: int) -> tuple[list[Trajectory], RolloutFigures]:
        train = self.config.train
        tasks, size = groups_of(self.tasks, episodes, train.num_generations)
        ends: list[float] = []
        before = self.pool.usage()
        begin = time.perf_counter()
        groups = self.pool.collect(
            tasks,
            group_size=size,
            temperature=train.temperature,
            seed=self.config.seed,
            on_episode=lambda _: ends.append(time.perf_counter() - begin),
        )
        seconds = time.perf_counter() - begin
        used = (self.pool.usage() - before).metrics()
        played = [episode for group in groups for episode in group.trajectories]
        if not any(episode.turns for episode in played):
            raise ConfigError(
                f"env.id {self.config.env.id}: no episode has a turn; the first one ended so: "
                f"{played[0].error or played[0].stop_reason.value}"
            )
        return played, figures_of(
            played, ends, places=places, seconds=seconds, cache_hits=used["prefix_cache_hits"]
        )


def _setting(config: Config, source: str, parameters: int) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "policy": source,
        "parameters": parameters,
        "world": config.env.id,
        "temperature": config.train.temperature,
        "dtype": chosen_dtype(config.serving.dtype, gpu=torch.cuda.is_available()),
        "engine threads": config.serving.threads,
        "workers": config.workers.count,
        "cores": os.cpu_count(),
    }


def speed_table(rows: Sequence[RolloutRow]) -> Table:
    """The sampled tokens a second of each way, and the rollout's ratio to it."""
    titles = {"raw": "raw\nvLLM", "lock_step": "lock-\nstep", "generate": "gene-\nrate"}
    ways = list(rows[0].references)
    names = ["en-\ngines", "at a\ntime", "epi-\nsodes", "sec-\nonds", "roll-\nout"]
    for way in ways:
        names += [titles[way], "ratio"]
    table = _table(
        "Sampled tokens a second, medians; ratio: the rollout's to the one before", names
    )
    for row in rows:
        episodes, seconds = row.rollouts[0].episodes, row.median("seconds")
        cells = [f"{row.engines}", f"{row.places}", f"{episodes}", f"{seconds:.2f}"]
        cells.append(f"{row.rollout_speed:,.0f}")
        for way in ways:
            cells += [f"{row.speed(way):,.0f}", f"{row.ratio(way):.2f}"]
        table.add_row(*cells)
    return table


def time_table(rows: Sequence[RolloutRow]) -> Table:
    """How full the places were, and the shares of their time in percent."""
    names = ["en-\ngines", "at a\ntime", *_SHARES.values(), "cache\nhits", "(raw\nvLLM)"]
    table = _table("Rollouts: shares of the places' time, medians in %", names)
    for row in rows:
        shares = [percent(row.median(field)) for field in (*_SHARES, "cache_hits")]
        table.add_row(f"{row.engines}", f"{row.places}", *shares, percent(row.raw_cache_hits))
    return table


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table
