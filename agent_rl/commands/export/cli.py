"""The command `agent-rl export`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.stages.cli import ConfigPath, Overrides
from agent_rl.config import load_config


def export(
    config: ConfigPath,
    overrides: Overrides = None,
    model: Annotated[
        str | None, typer.Option(help="folder, hub name or .gguf; default: the run's newest")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="a new folder; default: RUN_FOLDER/export")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32")] = "bfloat16",
    push_to_hub: Annotated[
        str, typer.Option(help="also upload it: owner/name; a new repository is private")
    ] = "",
) -> None:
    """Write a policy as a Hugging Face folder: weights, tokenizer, model card with results."""
    checked = load_config(config, overrides or ())
    from agent_rl.commands.export import folder
    from agent_rl.commands.stages.start import starting_policy

    folder.export(checked, model or starting_policy(checked), to=to, dtype=dtype, hub=push_to_hub)
