"""The commands `agent-rl bench ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_rl.commands.games.cli import Data, Split

bench = typer.Typer(no_args_is_help=True, help="Measure speed, memory and exactness.")

Json = Annotated[Path | None, typer.Option(help="also write the numbers to this file")]


@bench.command("env")
def env_(
    data: Data = "generated",
    split: Split = "valid_seen",
    games: Annotated[
        int, typer.Option(min=1, help="how many games, in equal shares of the families")
    ] = 6,
    seed: Annotated[int, typer.Option(help="the seed of the drawn games and of the walks")] = 0,
    json: Json = None,
) -> None:
    """Time ALFWorld's native engine against the stock one: steps, resets, a group, memory."""
    from agent_rl.commands.bench.env import bench_env

    bench_env(data, split=split, games=games, seed=seed, json_file=json)


@bench.command("games")
def games_(data: Data = "generated", split: Split = "train", json: Json = None) -> None:
    """Time finding and parsing all games of a split."""
    from agent_rl.commands.bench.games import bench_games

    bench_games(data, split=split, json_file=json)


@bench.command("learner")
def learner_(
    data: Data = "generated",
    model: Annotated[
        str | None,
        typer.Option(help="folder, hub name or .gguf file; default: a small policy from scratch"),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="the expert's episodes in the optimizer step")
    ] = 100,
    generations: Annotated[
        int, typer.Option(min=1, help="episodes of each task; they begin alike")
    ] = 1,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="learner.dtype")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="torch's threads on CPU; 0: its choice")] = 0,
    micro_batch_tokens: Annotated[
        int, typer.Option(min=1, help="learner.micro_batch_tokens")
    ] = 4096,
    json: Json = None,
) -> None:
    """Time the learner against the bare model and a plain padded learner, with peak memory."""
    from agent_rl.commands.bench.learner import LearnerBench, bench_learner

    measured = LearnerBench(
        data=data,
        model=model,
        episodes=episodes,
        generations=generations,
        dtype=dtype,
        threads=threads,
        micro_batch_tokens=micro_batch_tokens,
    )
    bench_learner(measured, json)


@bench.command("weights")
def weights_(
    png: Annotated[Path | None, typer.Option(help="draw the picture in this file")] = None,
    json: Json = None,
) -> None:
    """Show the weights of an episode's tokens with one outlier: GMPO, GRPO, GSPO and CISPO."""
    from agent_rl.commands.bench.weights import bench_weights

    bench_weights(png_file=png, json_file=json)
