"""What `agent-rl envs` does: list the environments that have a name, check one against the contract."""

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
    console.print("Also package.module:Class for your own, and gymnasium's ids, such as FrozenLake-v1.", style="dim")


@envs.command()
def check(
    env_id: Annotated[str, typer.Argument(metavar="ID", help="as env.id in a config", show_default=False)],
    options: Annotated[list[str] | None, typer.Argument(help="key=value of env.options, for example size=8")] = None,
    tasks: Annotated[int, typer.Option(help="how many tasks to play")] = 3,
    steps: Annotated[int, typer.Option(help="how many commands a game gets")] = 20,
    seconds: Annotated[float, typer.Option(help="how long a call may take")] = 30.0,
) -> None:
    """Check an environment against the contract; the exit status is 1 where it does not keep it."""
    from functools import partial

    from envs import make_env
    from envs.conformance import examine_env

    values = read_options(options or [])
    if "expert" not in values and _has_expert(env_id, values):
        values["expert"] = True
    make_env(env_id, **values).close()
    report = examine_env(partial(make_env, env_id, **values), tasks=tasks, steps=steps, seconds=seconds)
    _show(env_id, report)
    if not report.passed:
        raise typer.Exit(1)


def read_options(settings: list[str]) -> dict[str, Any]:
    """`key=value` pairs as a dictionary; values are YAML, and a dot in a key goes down into a mapping.

    Raises:
        ConfigError: a setting is not of that form.
    """
    import yaml

    from agent_rl.config import ConfigError

    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, last = key.split(".")
        inner: Any = values
        for section in sections:
            inner = inner.setdefault(section, {}) if isinstance(inner, dict) else None
        if not equals or not last or not isinstance(inner, dict):
            raise ConfigError(f"{setting!r}: write key=value, for example size=8 or games.train=4")
        try:
            inner[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{setting!r}: the value is not valid YAML: {error}") from error
    return values


def _has_expert(env_id: str, values: dict[str, Any]) -> bool:
    """Whether the environment takes the option; with its expert, games come to an end, and there is more to check."""
    from envs import make_env

    try:
        make_env(env_id, **values, expert=True).close()
    except ValueError:
        return False
    return True


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
