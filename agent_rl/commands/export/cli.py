"""The commands `agent-rl export` and `agent-rl export-episodes`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from agent_rl.commands.stages.cli import ConfigPath, Overrides
from agent_rl.config import load_config

RunFolderPath = Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")]


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


def export_episodes(
    run: RunFolderPath,
    form: Annotated[
        Literal["atif", "messages", "parquet"], typer.Option("--format", help="of the file")
    ] = "messages",
    stage: Annotated[
        Literal["train", "sft", "evaluations"], typer.Option(help="whose episodes")
    ] = "train",
    step: Annotated[str, typer.Option(help="rollout steps, such as 10, 5-10 or 1,5-10")] = "",
    split: Annotated[str, typer.Option(help="splits of the tasks, with commas between")] = "",
    family: Annotated[str, typer.Option(help="families of the tasks, with commas between")] = "",
    success: Annotated[
        bool | None, typer.Option("--success/--failure", help="only those; default: both")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="a file; for atif also a new folder; default: in RUN/episodes"),
    ] = None,
    push_to_hub: Annotated[
        str, typer.Option(help="also upload it: owner/name; a new data set is private")
    ] = "",
) -> None:
    """Write a run's episodes for other tools: ATIF, chat messages with masks, or parquet."""
    from agent_rl.commands.export.chosen_episodes import Choice, names_of, read_steps
    from agent_rl.commands.export.episodes import export_episodes as export_all

    choice = Choice(
        steps=read_steps(step), splits=names_of(split), families=names_of(family), success=success
    )
    export_all(run, form, stage=stage, choice=choice, output=output, hub=push_to_hub)
