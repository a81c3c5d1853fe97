"""The commands `agent-rl games ...`."""

from pathlib import Path
from typing import Annotated

import typer

games = typer.Typer(
    no_args_is_help=True, help="ALFWorld games: get them, look at them, verify the engine."
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="a folder in ALFWorld's layout, '$ALFWORLD_DATA', or generated"
    ),
]
Split = Annotated[str, typer.Option(help="train, valid_seen or valid_unseen")]


@games.command()
def generate(
    folder: Annotated[
        Path, typer.Argument(help="a new folder; name it in env.options.data or $ALFWORLD_DATA")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="key=value, for example train=500")
    ] = None,
) -> None:
    """Generate solvable ALFWorld games of all six families, from the alfworld package's files."""
    from agent_rl.commands.games import data

    data.generate(folder, settings or [])


@games.command()
def download(
    folder: Annotated[Path, typer.Argument(help="the folder to write; name it in $ALFWORLD_DATA")],
) -> None:
    """Fetch the published games with alfworld's own downloader (2 GB), and look for faults."""
    from agent_rl.commands.games import data

    if not data.download(folder):
        raise typer.Exit(1)


@games.command()
def doctor(
    folder: Annotated[
        str,
        typer.Argument(metavar="DATA", help="a folder in ALFWorld's layout, or '$ALFWORLD_DATA'"),
    ],
) -> None:
    """List the faults of a data folder: counts, versions, broken files; exit status 1 if any."""
    from agent_rl.commands.games import data

    if not data.doctor(folder):
        raise typer.Exit(1)


@games.command("list")
def list_(folder: Data, split: Split = "valid_seen") -> None:
    """List the games of a split: family and id."""
    from agent_rl.commands.games import data

    data.list_games(folder, split)


@games.command()
def info(folder: Data) -> None:
    """Count the games of a data folder, per split and family."""
    from agent_rl.commands.games import data

    data.show_counts(folder)


@games.command("verify")
def verify_(
    data: Data,
    split: Split = "valid_seen",
    games: Annotated[
        int, typer.Option(min=0, help="how many games, in equal shares of the families; 0: all")
    ] = 0,
    turns: Annotated[
        int, typer.Option(min=1, help="commands in a walk; each game has three walks")
    ] = 30,
    seed: Annotated[int, typer.Option(help="the seed of the drawn games and of the walks")] = 0,
    processes: Annotated[int, typer.Option(min=0, help="processes to use; 0: one per core")] = 0,
    json: Annotated[Path | None, typer.Option(help="also write the report to this file")] = None,
) -> None:
    """Compare the native engine with the stock one, command by command.

    The exit status is 1 if they differ.
    """
    from agent_rl.commands.games.verify import Walks, verify

    walks = Walks(split=split, games=games, turns=turns, seed=seed)
    if not verify(data, walks, processes=processes, report_file=json):
        raise typer.Exit(1)
