"""The command `agent-rl prompt`."""

from typing import Annotated

import typer

from agent_rl.commands.stages.cli import ConfigPath, Overrides
from agent_rl.config import load_config


def prompt(
    config: ConfigPath,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="folder, hub name or .gguf; default: the run's newest")
    ] = None,
) -> None:
    """Show the exact prompts of two turns, and how the model's chat template is used for them."""
    checked = load_config(config, overrides or ())
    from agent_rl.commands.prompt.turns import show_prompts
    from agent_rl.commands.stages.start import starting_policy

    show_prompts(checked, model or starting_policy(checked))
