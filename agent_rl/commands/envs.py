"""What `agent-rl envs` does: list the environments that have a name, check one against the
contract.
"""

from typing import Annotated, Any

import typer

envs = typer.Typer(no_args_is_help=True, help="Environments: list, check.")


@envs.command("list")
def list_() -> None:
    """The environments that have a name, those of installed packages included."""
    from rich.table import Table
    from rich.text import Text

    from agent_rl.display import console
    from envs.registry import list_environments

    table = Table(box=None, pad_edge=False)
    for head in ("id", "what it is", "from"):
        table.add_column(head, no_wrap=head != "what it is")
    for entry in list_environments():
        table.add_row(*map(Text, (entry.id, entry.summary, entry.source)))
    console.print(table)
    console.print(
        "Also package.module:Class for your own, and gymnasium's ids, such as FrozenLake-v1.",
        style="dim",
    )


@envs.command()
def check(
    env_id: Annotated[
        str, typer.Argument(metavar="ID", help="as env.id in a config", show_default=False)
    ],
    options: Annotated[
        list[str] | None, typer.Argument(help="key=value of env.options, for example size=8")
    ] = None,
    tasks: Annotated[int, typer.Option(help="how many tasks to play")] = 3,
    steps: Annotated[int, typer.Option(help="how many commands a game gets")] = 20,
    seconds: Annotated[float, typer.Option(help="how long a call may take")] = 30.0,
) -> None:
    """Check an environment against the contract; the exit status is 1 where it does not keep it."""
    from agent_rl.config import read_options
    from envs import TextEnv, make_env
    from envs.conformance.report import examine_env
    from envs.registry import takes_option

    values = read_options(options or [])
    if takes_option(env_id, "expert"):
        # With its expert, games come to an end, and there is more to check.
        values.setdefault("expert", True)
    attempts: list[ValueError | None] = []

    def make() -> TextEnv:
        try:
            env = make_env(env_id, **values)
        except ValueError as error:
            attempts.append(error)
            raise
        attempts.append(None)
        return env

    report = examine_env(make, tasks=tasks, steps=steps, seconds=seconds)
    if attempts and attempts[0] is not None:
        raise attempts[0]  # the id or the options do not fit: nothing has been examined
    _show(env_id, report)
    if not report.passed:
        raise typer.Exit(1)


def _show(env_id: str, report: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from agent_rl.display import console

    colors = {"passed": "green", "failed": "bold red", "not run": "dim"}
    table = Table(box=None, pad_edge=False, show_header=False)
    for width in (True, True, False):
        table.add_column(no_wrap=width)
    for look in report.checks:
        outcome = look.outcome.value
        table.add_row(look.name, outcome, Text(look.sentence), style=colors[outcome])
    console.print(table)
    count = len(report.failures)
    verdict = f"{count} of {len(report.checks)} checks failed" if count else "keeps the contract"
    console.print(Text(f"{env_id}: {verdict}"))
