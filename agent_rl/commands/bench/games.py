"""`agent-rl bench games`: the time to find all games of a split, and to parse them."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table

from agent_rl.display import console, progress, say
from agent_rl.files import write_json
from envs.alfworld.data import game_path
from envs.alfworld.engines.game import parse_game
from envs.alfworld.env import AlfworldEnv

_CACHE = "AGENT_RL_CACHE"


def bench_games(data: str, *, split: str, json_file: Path | None) -> None:
    """Time finding all games of a split in a folder without an index, and parsing them.

    Raises:
        ValueError: there is no such data or split.
    """
    # Made once before the clock runs, because it may generate the games.
    folder = AlfworldEnv(data=data).folder
    with _empty_cache():
        env = AlfworldEnv(data=str(folder))
        started = time.perf_counter()
        tasks = env.tasks(split)
        seconds = {"index": time.perf_counter() - started}
    started = time.perf_counter()
    with progress("parsing", len(tasks)) as advance:
        for task in tasks:
            parse_game(game_path(folder, split, task.id))
            advance("")
    seconds["parse"] = time.perf_counter() - started
    title = f"{len(tasks):,} games of {split} of {data}, wall-clock time"
    table = Table(title=title, title_justify="left")
    for name in ("", "seconds", "ms a game"):
        table.add_column(name, justify="right" if name else "left")
    for name, value in seconds.items():
        table.add_row(name, f"{value:.2f}", f"{1e3 * value / len(tasks):.2f}")
    console.print(table)
    if json_file is not None:
        write_json(json_file, {"games": len(tasks), "seconds": seconds})
        say(f"written to {json_file}")


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Use an empty cache folder within this context: the index is then made again."""
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_CACHE] = folder
        try:
            yield
        finally:
            del os.environ[_CACHE]
            if before is not None:
                os.environ[_CACHE] = before
