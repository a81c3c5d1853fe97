"""The commands `agent-rl envs ...`."""

from typing import Annotated

import typer

envs = typer.Typer(no_args_is_help=True, help="Environments: list them, check one.")


@envs.command("list")
def list_() -> None:
    """List the environments that have a name, those of installed packages included."""
    from agent_rl.commands.envs.listing import show_environments

    show_environments()


@envs.command()
def check(
    env_id: Annotated[
        str, typer.Argument(metavar="ID", help="as env.id in a config", show_default=False)
    ],
    options: Annotated[
        list[str] | None, typer.Argument(help="key=value of env.options, for example size=8")
    ] = None,
    tasks: Annotated[int, typer.Option(help="how many tasks to play")] = 3,
    steps: Annotated[int, typer.Option(help="the most commands in a game")] = 20,
    seconds: Annotated[float, typer.Option(help="the most seconds that a call may take")] = 30.0,
) -> None:
    """Check an environment against the contract; the exit status is 1 if it breaks it."""
    from agent_rl.commands.envs.check import check_environment

    if not check_environment(env_id, options or [], tasks=tasks, steps=steps, seconds=seconds):
        raise typer.Exit(1)
