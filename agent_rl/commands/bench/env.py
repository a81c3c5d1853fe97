"""`agent-rl bench env`: the cost of ALFWorld's native engine and of the stock one (textworld)."""

import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import psutil
from rich.table import Table

from agent_rl.display import console, progress, say
from agent_rl.files import write_json
from agent_rl.tasks import pick_evenly
from envs.alfworld.data import game_path
from envs.alfworld.engines import rules
from envs.alfworld.engines.game import Game, load_game, parse_game
from envs.alfworld.engines.state import State
from envs.alfworld.engines.stock import TextworldEngine, forget_translations
from envs.alfworld.env import AlfworldEnv

EPISODES = 8
"""The episodes of the group that is timed."""
STEPS = 30
"""The steps of each of them."""
_REPEATS = 20
"""How often the native engine's microseconds are measured, to take the median."""


@dataclass(frozen=True, kw_only=True)
class EngineCost:
    """CPU seconds of one game in one engine."""

    load: float
    """Reading and translating the game's file."""
    reset: float
    """Starting an episode."""
    step: float
    """A command: its text, the admissible commands, whether the game is won."""
    bare_step: float
    """The same without the admissible commands."""
    group: float
    """`EPISODES` episodes of `STEPS` steps, loading included."""


def bench_env(data: str, *, split: str, games: int, seed: int, json_file: Path | None) -> None:
    """Time both engines on the same walks through some games; print medians and ratios.

    The stock engine is timed in its usual way: a game is loaded and translated for each episode,
    because each has its own environment. `group, one environment` is the sum if one environment is
    loaded once and reset.

    Raises:
        ValueError: there is no such data or split.
    """
    env = AlfworldEnv(data=data)
    tasks = pick_evenly(env.tasks(split), games, seed)
    paths = [game_path(env.folder, split, task.id) for task in tasks]
    native: list[EngineCost] = []
    stock: list[EngineCost] = []
    engine = TextworldEngine()
    with progress("games", len(tasks)) as advance:
        for task, path in zip(tasks, paths, strict=True):
            walk = _walk(path, random.Random(f"{seed}/{task.id}"))
            native.append(_native(path, walk))
            stock.append(_textworld(engine, path, walk))
            advance(task.family)
    memory = _native_memory(paths)
    memory["textworld environment"] = _stock_memory(paths[0])
    medians = {"native": _median(native), "textworld": _median(stock)}
    title = f"{len(tasks)} games of {split} of {data}, CPU time on one core"
    console.print(_table(medians["native"], medians["textworld"], memory, title))
    if json_file is not None:
        record = {
            "games": [task.id for task in tasks],
            "costs": {
                "native": [asdict(cost) for cost in native],
                "textworld": [asdict(cost) for cost in stock],
            },
            "median": {name: asdict(cost) for name, cost in medians.items()},
            "bytes": memory,
        }
        write_json(json_file, record)
        say(f"written to {json_file}")


def _walk(path: Path, rng: random.Random) -> list[str]:
    """`STEPS` admissible commands that do not win."""
    while True:
        state = State(load_game(path))
        commands: list[str] = []
        while len(commands) < STEPS and not state.won:
            commands.append(rng.choice(rules.admissible_commands(state)))
            rules.step(state, commands[-1])
        if len(commands) == STEPS:
            return commands


def _native(path: Path, walk: Sequence[str]) -> EngineCost:
    """The costs of the native engine: medians of many repeats, because it takes microseconds."""

    def play(game: Game, *, with_commands: bool) -> float:
        state = State(game)
        started = time.process_time()
        for command in walk:
            rules.step(state, command)
            if with_commands:
                rules.admissible_commands(state)
            assert not state.won
        return (time.process_time() - started) / len(walk)

    def group() -> None:
        game = parse_game(path)
        for _ in range(EPISODES):
            rules.intro(State(game))
            play(game, with_commands=True)

    game = parse_game(path)
    return EngineCost(
        load=_typical(lambda: _cpu_seconds(lambda: parse_game(path))),
        reset=_typical(lambda: _cpu_seconds(lambda: rules.intro(State(game)))),
        step=_typical(lambda: play(game, with_commands=True)),
        bare_step=_typical(lambda: play(game, with_commands=False)),
        group=_typical(lambda: _cpu_seconds(group)),
    )


def _textworld(engine: TextworldEngine, path: Path, walk: Sequence[str]) -> EngineCost:
    """The costs of the stock engine: it plays the whole group once, with a load per episode."""
    loads, resets, steps = [], [], []
    for _ in range(EPISODES):
        # `load` and `reset` both keep the game's translation, so it is forgotten before each.
        forget_translations()
        loads.append(_cpu_seconds(lambda: engine.load(path)))
        forget_translations()
        resets.append(_cpu_seconds(lambda: engine.reset(path)))
        for command in walk:
            steps.append(_cpu_seconds(partial(engine.step, command)))
    return EngineCost(
        load=statistics.median(loads),
        reset=statistics.median(resets),
        step=statistics.median(steps),
        bare_step=statistics.median(steps),
        group=sum(loads) + sum(resets) + sum(steps),
    )


def _native_memory(paths: Sequence[Path]) -> dict[str, float]:
    """The bytes of a parsed game, and of an episode after `STEPS` steps, on average."""
    for path in paths:
        # Into its cache first: `_walk` loads the games too, and that memory is not an episode's.
        load_game(path)
    tracemalloc.start()
    games = [parse_game(path) for path in paths]
    for_games, _ = tracemalloc.get_traced_memory()
    walks = [_walk(path, random.Random(0)) for path in paths]
    before, _ = tracemalloc.get_traced_memory()
    states = [State(game) for game in games]
    for state, walk in zip(states, walks, strict=True):
        for command in walk:
            rules.step(state, command)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"native game": for_games / len(games), "native episode": (after - before) / len(states)}


def _stock_memory(path: Path) -> float:
    """The bytes by which the process grows for each environment of the stock engine with a game."""
    process, engines = psutil.Process(), []
    before = process.memory_info().rss
    for _ in range(4):
        engines.append(TextworldEngine())
        engines[-1].reset(path)
    return float(process.memory_info().rss - before) / len(engines)


def _cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _typical(measure: Callable[[], float]) -> float:
    """The median of `_REPEATS` measurements."""
    return statistics.median(measure() for _ in range(_REPEATS))


def _median(costs: Sequence[EngineCost]) -> EngineCost:
    medians = {}
    for field in fields(EngineCost):
        medians[field.name] = statistics.median(getattr(cost, field.name) for cost in costs)
    return EngineCost(**medians)


def _table(native: EngineCost, stock: EngineCost, memory: Mapping[str, float], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("median over games", no_wrap=True)
    for name in ("textworld", "native", "ratio"):
        table.add_column(name, justify="right")
    rates = {
        "resets a second": (stock.reset, native.reset),
        "steps a second, with admissible commands": (stock.step, native.step),
        "steps a second, without": (stock.bare_step, native.bare_step),
    }
    for name, (old, new) in rates.items():
        table.add_row(name, f"{1 / old:,.1f}", f"{1 / new:,.0f}", f"{old / new:,.0f}")
    one_environment = stock.group - (EPISODES - 1) * stock.load
    times = {
        "load a game, ms": (stock.load, native.load),
        f"group of {EPISODES} x {STEPS}, ms": (stock.group, native.group),
        "group, one environment, ms": (one_environment, native.group),
    }
    for name, (old, new) in times.items():
        table.add_row(name, f"{1e3 * old:,.1f}", f"{1e3 * new:,.2f}", f"{old / new:,.0f}")
    table.add_section()
    of_stock = f"{memory['textworld environment'] / 1e3:,.0f}"
    table.add_row("KB a game", "", f"{memory['native game'] / 1e3:,.0f}", "")
    table.add_row("KB an episode", of_stock, f"{memory['native episode'] / 1e3:,.1f}", "")
    return table
