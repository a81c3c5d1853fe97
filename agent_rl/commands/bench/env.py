"""`agent-rl bench env` and `bench games`: what stepping and loading ALFWorld costs, native against
textworld.
"""

import json
import os
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from agent_rl.display import console, progress, say
from agent_rl.tasks import pick_evenly
from envs.alfworld.data import game_path
from envs.alfworld.engines.game import Game, load_game, parse_game
from envs.alfworld.engines.rules import State
from envs.alfworld.engines.stock import TextworldEngine, forget_translations
from envs.alfworld.env import AlfworldEnv

EPISODES, STEPS = 8, 30
"""The group that is timed."""
_REPEATS = 20
"""How often the native engine's microseconds are measured, to take the median."""


@dataclass(frozen=True, kw_only=True)
class EngineCost:
    """CPU seconds of one game in one engine. `group`: `EPISODES` episodes of `STEPS` steps, loading
    included.

    `step` gives the text, the admissible commands and whether the game is won; `bare_step` all but
    the commands.
    """

    load: float
    reset: float
    step: float
    bare_step: float
    group: float


def bench_env(data: str, *, split: str, games: int, seed: int, json_file: Path | None) -> None:
    """Time both engines on the same walks through `games` games and print medians and ratios.

    The stock engine is timed as it comes: a game is loaded and translated for every episode, as
    where each has an environment of its own; `group, one environment` is the sum where one
    environment is loaded once and reset.

    Raises:
        ValueError: there is no such data or split.
    """
    env = AlfworldEnv(data=data)
    tasks = pick_evenly(env.tasks(split), games, seed)
    costs: dict[str, list[EngineCost]] = {"native": [], "textworld": []}
    stock = TextworldEngine()
    with progress("games", len(tasks)) as advance:
        for task in tasks:
            path = game_path(env.folder, split, task.id)
            walk = _walk(path, random.Random(f"{seed}/{task.id}"))
            costs["native"].append(_native(path, walk))
            costs["textworld"].append(_textworld(stock, path, walk))
            advance(task.family)
    memory = _native_memory([game_path(env.folder, split, task.id) for task in tasks])
    memory["textworld environment"] = _stock_memory(game_path(env.folder, split, tasks[0].id))
    medians = {name: _median(rows) for name, rows in costs.items()}
    console.print(
        _table(medians, memory, f"{len(tasks)} games of {split} of {data}, CPU time on one core")
    )
    if json_file is not None:
        _write(
            json_file,
            {
                "games": [task.id for task in tasks],
                "costs": _plain(costs),
                "median": _plain(medians),
                "bytes": memory,
            },
        )


def bench_games(data: str, *, split: str, json_file: Path | None) -> None:
    """Time finding all games of a split in a folder without an index, and parsing them."""
    folder = str(AlfworldEnv(data=data).folder)  # generated before the clock runs
    with _empty_cache():
        env = AlfworldEnv(data=folder)
        tasks, index_seconds = _timed(lambda: env.tasks(split), time.perf_counter)
    paths = [game_path(env.folder, split, task.id) for task in tasks]

    def parse_all() -> None:
        with progress("parsing", len(paths)) as advance:
            for path in paths:
                parse_game(path)
                advance("")

    _, parse_seconds = _timed(parse_all, time.perf_counter)
    seconds = {"index": index_seconds, "parse": parse_seconds}
    title = f"{len(paths):,} games of {split} of {data}, wall time"
    table = Table(title=title, title_justify="left")
    for name in ("", "seconds", "ms a game"):
        table.add_column(name, justify="right" if name else "left")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f}", f"{1e3 * value / len(paths):.2f}")
    console.print(table)
    if json_file is not None:
        _write(json_file, {"games": len(paths), "seconds": seconds})


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Use an empty cache folder meanwhile, so the index of the games is made again."""
    value = os.environ.get("AGENT_RL_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["AGENT_RL_CACHE"] = folder
        try:
            yield
        finally:
            if value is None:
                del os.environ["AGENT_RL_CACHE"]
            else:
                os.environ["AGENT_RL_CACHE"] = value


def _walk(path: Path, rng: random.Random) -> list[str]:
    """`STEPS` admissible commands that do not win."""
    while True:
        state = State(load_game(path))
        commands: list[str] = []
        while len(commands) < STEPS and not state.won:
            commands.append(rng.choice(state.admissible_commands()))
            state.step(commands[-1])
        if len(commands) == STEPS:
            return commands


def _native(path: Path, walk: Sequence[str]) -> EngineCost:
    def play(game: Game, *, with_commands: bool) -> float:
        state = State(game)
        started = time.process_time()
        for command in walk:
            state.step(command)
            if with_commands:
                state.admissible_commands()
            assert not state.won
        return (time.process_time() - started) / len(walk)

    def group() -> None:
        game = parse_game(path)
        for _ in range(EPISODES):
            State(game).intro()
            play(game, with_commands=True)

    game = parse_game(path)
    return EngineCost(
        load=_typical(lambda: _timed(lambda: parse_game(path))[1]),
        reset=_typical(lambda: _timed(lambda: State(game).intro())[1]),
        step=_typical(lambda: play(game, with_commands=True)),
        bare_step=_typical(lambda: play(game, with_commands=False)),
        group=_typical(lambda: _timed(group)[1]),
    )


def _textworld(engine: TextworldEngine, path: Path, walk: Sequence[str]) -> EngineCost:
    """The whole group is played, every episode with a load of its own."""
    loads, resets, steps = [], [], []
    for _ in range(EPISODES):
        forget_translations()
        loads.append(_timed(lambda: engine.load(path))[1])
        forget_translations()
        resets.append(_timed(lambda: engine.reset(path))[1])
        steps += [_timed(lambda: engine.step(command))[1] for command in walk]  # noqa: B023
    return EngineCost(
        load=statistics.median(loads),
        reset=statistics.median(resets),
        step=statistics.median(steps),
        bare_step=statistics.median(steps),
        group=sum(loads) + sum(resets) + sum(steps),
    )


def _native_memory(paths: Sequence[Path]) -> dict[str, float]:
    """Bytes that a parsed game and an episode after `STEPS` steps hold, on average."""
    for path in paths:
        load_game(path)
    tracemalloc.start()
    games = [parse_game(path) for path in paths]
    for_games, _ = tracemalloc.get_traced_memory()
    walks = [_walk(path, random.Random(0)) for path in paths]
    before, _ = tracemalloc.get_traced_memory()
    states = [State(game) for game in games]
    for state, walk in zip(states, walks, strict=True):
        for command in walk:
            state.step(command)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"native game": for_games / len(games), "native episode": (after - before) / len(states)}


def _stock_memory(path: Path) -> float:
    """Bytes by which the process grows for one more environment of the stock engine with a game
    loaded.
    """
    process, engines = psutil.Process(), []
    before = process.memory_info().rss
    for _ in range(4):
        engines.append(TextworldEngine())
        engines[-1].reset(path)
    return float(process.memory_info().rss - before) / len(engines)


def _timed(
    work: Callable[[], Any], clock: Callable[[], float] = time.process_time
) -> tuple[Any, float]:
    started = clock()
    result = work()
    return result, clock() - started


def _typical(measure: Callable[[], float]) -> float:
    return statistics.median(measure() for _ in range(_REPEATS))


def _median(costs: Sequence[EngineCost]) -> EngineCost:
    rows = [asdict(cost) for cost in costs]
    return EngineCost(**{name: statistics.median(row[name] for row in rows) for name in rows[0]})


def _table(medians: dict[str, EngineCost], memory: dict[str, float], title: str) -> Table:
    native, stock = medians["native"], medians["textworld"]
    table = Table(title=title, title_justify="left")
    table.add_column("median over games", no_wrap=True)
    for name in ("textworld", "native", "ratio"):
        table.add_column(name, justify="right")
    rates = {
        "resets a second": "reset",
        "steps a second, with admissible commands": "step",
        "steps a second, without": "bare_step",
    }
    for name, cost in rates.items():
        old, new = 1 / getattr(stock, cost), 1 / getattr(native, cost)
        table.add_row(name, f"{old:,.1f}", f"{new:,.0f}", f"{new / old:,.0f}")
    one_environment = stock.group - (EPISODES - 1) * stock.load
    seconds = {
        "load a game, ms": (stock.load, native.load),
        f"group of {EPISODES} x {STEPS}, ms": (stock.group, native.group),
        "group, one environment, ms": (one_environment, native.group),
    }
    for name, (old, new) in seconds.items():
        table.add_row(name, f"{1e3 * old:,.1f}", f"{1e3 * new:,.2f}", f"{old / new:,.0f}")
    table.add_section()
    table.add_row("KB a game", "", f"{memory['native game'] / 1e3:,.0f}", "")
    table.add_row(
        "KB an episode",
        f"{memory['textworld environment'] / 1e3:,.0f}",
        f"{memory['native episode'] / 1e3:,.1f}",
        "",
    )
    return table


def _plain(costs: Any) -> Any:
    return {
        name: [asdict(row) for row in rows] if isinstance(rows, list) else asdict(rows)
        for name, rows in costs.items()
    }


def _write(path: Path, record: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    say(f"written to {path}")
