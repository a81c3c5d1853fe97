"""The commands `agent-rl games ...`."""

from pathlib import Path
from typing import Annotated

import typer

games = typer.Typer(
    no_args_is_help=True, help="ALFWorld games: get them, look at them, verify the engine."
)

Data = Annotated[
    str, typer.Argument(help="a folder in ALFWorld's layout, '$ALFWORLD_DATA', or generated")
]
Split = Annotated[str, typer.Option(help="train, valid_seen or valid_unseen")]


@games.command()
def generate(
    folder: Annotated[
        Path, typer.Argument(help="a new folder; point env.options.data or $ALFWORLD_DATA at it")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example train=500")
    ] = None,
) -> None:
    """Write ALFWorld games: solvable, of all six families, from what the alfworld package ships."""
    from agent_rl.commands.games import data as game_commands

    game_commands.generate(folder, settings or [])


@games.command()
def download(
    folder: Annotated[Path, typer.Argument(help="where the data goes; point $ALFWORLD_DATA at it")],
) -> None:
    """Fetch the published games with alfworld's own downloader (2 GB), and look for faults."""
    from agent_rl.commands.games import data as game_commands

    if not game_commands.download(folder):
        raise typer.Exit(1)


@games.command()
def doctor(
    data: Annotated[str, typer.Argument(help="a folder in ALFWorld's layout, or '$ALFWORLD_DATA'")],
) -> None:
    """Say what is wrong with a data folder: counts, versions, broken files; exit status 1 where
    something is.
    """
    from agent_rl.commands.games import data as game_commands

    if not game_commands.doctor(data):
        raise typer.Exit(1)


@games.command("list")
def list_(data: Data, split: Split = "valid_seen") -> None:
    """The games of a split, a line each: family and id."""
    from agent_rl.commands.games import data as game_commands

    game_commands.list_games(data, split)


@games.command()
def info(data: Data) -> None:
    """How many games a data folder holds, per split and family."""
    from agent_rl.commands.games import data as game_commands

    game_commands.show_counts(data)


@games.command()
def verify(
    data: Data,
    split: Split = "valid_seen",
    games: Annotated[
        int, typer.Option(min=0, help="how many games, the families in equal shares; 0 takes all")
    ] = 0,
    turns: Annotated[
        int, typer.Option(min=1, help="commands in a walk; each game is walked through three times")
    ] = 30,
    seed: int = 0,
    processes: Annotated[
        int, typer.Option(min=0, help="processes to use; 0 takes one per core")
    ] = 0,
    json: Annotated[Path | None, typer.Option(help="write the report to this file too")] = None,
) -> None:
    """Compare the native engine with the stock one, command by command; exit status 1 where they
    differ.
    """
    from agent_rl.commands.games.verify import verify

    if not verify(
        data,
        split=split,
        games=games,
        turns=turns,
        seed=seed,
        processes=processes,
        report_file=json,
    ):
        raise typer.Exit(1)
