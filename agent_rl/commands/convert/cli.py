"""The commands `agent-rl convert ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

convert = typer.Typer(no_args_is_help=True, help="Configs of other trainers as ours.")


@convert.callback()
def _group() -> None:
    """Keep the name of the one command there is so far."""


@convert.command("trl-config")
def trl_config(
    file: Annotated[Path, typer.Argument(help="JSON or YAML of a GMPOConfig or GRPOConfig")],
    trainer: Annotated[
        Literal["gmpo", "grpo"], typer.Option(help="whose config it is; no key says so")
    ] = "gmpo",
    processes: Annotated[
        int, typer.Option(min=1, help="of TRL's run, as its batch sizes are per process")
    ] = 1,
    to: Annotated[
        Path | None, typer.Option(help="a new file for the YAML; default: standard output")
    ] = None,
) -> None:
    """Write TRL's config with our keys, and say what became of each key."""
    import yaml

    from agent_rl.commands.convert.trl_config import account
    from agent_rl.commands.convert.trl_config import convert as translate
    from agent_rl.config import ConfigError
    from agent_rl.files import write_text

    result = translate(file, trainer, processes=processes)
    typer.echo(account(result, trainer=trainer), err=True)
    text = yaml.safe_dump(result.values, sort_keys=False)
    if to is None:
        typer.echo(text, nl=False)
        return
    if to.exists():
        raise ConfigError(f"--to: {to} exists; name a new file")
    write_text(to, text)
