"""The commands `agent-rl bench ...`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.cli_games import Data, Split

bench = typer.Typer(no_args_is_help=True, help="Measure: what a part costs, beside a reference in the same run.")

Json = Annotated[Path | None, typer.Option(help="write the numbers to this file too")]


@bench.command("env")
def env_(
    data: Data = "generated",
    split: Split = "valid_seen",
    games: Annotated[int, typer.Option(min=1, help="how many games, the families in equal shares")] = 6,
    seed: int = 0,
    json: Json = None,
) -> None:
    """ALFWorld's native engine against the stock one: steps and resets a second, a group of episodes, memory."""
    from agent_rl.bench_env import bench_env

    bench_env(data, split=split, games=games, seed=seed, json_file=json)


@bench.command("games")
def games_(data: Data = "generated", split: Split = "train", json: Json = None) -> None:
    """Find and load all games of a split, with an empty cache and with a full one."""
    from agent_rl.bench_env import bench_games

    bench_games(data, split=split, json_file=json)
