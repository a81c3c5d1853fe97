"""The commands `agent-rl bench ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_rl.commands.games.cli import Data, Split

bench = typer.Typer(
    no_args_is_help=True, help="Measure the parts: speed, memory, weights of tokens."
)

Json = Annotated[Path | None, typer.Option(help="write the numbers to this file too")]


@bench.command("env")
def env_(
    data: Data = "generated",
    split: Split = "valid_seen",
    games: Annotated[
        int, typer.Option(min=1, help="how many games, the families in equal shares")
    ] = 6,
    seed: int = 0,
    json: Json = None,
) -> None:
    """ALFWorld's native engine against the stock one: steps and resets a second, a group of
    episodes, memory.
    """
    from agent_rl.commands.bench.env import bench_env

    bench_env(data, split=split, games=games, seed=seed, json_file=json)


@bench.command("games")
def games_(data: Data = "generated", split: Split = "train", json: Json = None) -> None:
    """Find all games of a split without an index, and parse them."""
    from agent_rl.commands.bench.env import bench_games

    bench_games(data, split=split, json_file=json)


@bench.command("learner")
def learner_(
    data: Data = "generated",
    model: Annotated[
        str | None,
        typer.Option(
            help="a folder, a hub name or a .gguf file; else a small policy is made from scratch"
        ),
    ] = None,
    episodes: Annotated[
        int, typer.Option(min=1, help="how many of the expert's episodes an optimizer step has")
    ] = 100,
    generations: Annotated[
        int, typer.Option(min=1, help="episodes of each task; they begin alike")
    ] = 1,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float32"], typer.Option(help="learner.dtype")
    ] = "auto",
    threads: Annotated[
        int, typer.Option(min=0, help="torch's threads on CPU; 0 leaves its choice")
    ] = 0,
    micro_batch_tokens: Annotated[
        int, typer.Option(min=1, help="learner.micro_batch_tokens")
    ] = 4096,
    json: Json = None,
) -> None:
    """The learner's tokens a second and memory, beside the bare model's and those of a plain padded
    learner.
    """
    from agent_rl.commands.bench.learner import bench_learner

    bench_learner(
        data,
        model=model,
        episodes=episodes,
        generations=generations,
        dtype=dtype,
        threads=threads,
        micro_batch_tokens=micro_batch_tokens,
        json_file=json,
    )


@bench.command("weights")
def weights_(
    png: Annotated[Path | None, typer.Option(help="draw them in this file")] = None,
    json: Json = None,
) -> None:
    """Show the weights of an episode's tokens with one outlier: GMPO, GRPO, GSPO and CISPO."""
    from agent_rl.commands.bench.weights import bench_weights

    bench_weights(png_file=png, json_file=json)
