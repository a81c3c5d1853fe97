"""The command `agent-rl play`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.stages.cli import TrustEnv


def play(
    what: Annotated[
        str, typer.Argument(metavar="ID", help="an environment's id, or a YAML config")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="key=value: the environment's options, or the config's keys"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="default: the config's evaluation.split, or the first")
    ] = None,
    task: Annotated[str | None, typer.Option(help="a task's id; default: one is drawn")] = None,
    policy: Annotated[
        str, typer.Option(help="human, expert, random, or a checkpoint (folder or .gguf)")
    ] = "human",
    turns: Annotated[int | None, typer.Option(min=1, help="the most turns")] = None,
    seed: Annotated[
        int | None, typer.Option(help="the seed of the drawn task and of the policy")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="append the episode to this file; default: a new file")
    ] = None,
    trust_env: TrustEnv = False,
) -> None:
    """Play one episode at the terminal, or watch a policy play it step by step."""
    from agent_rl.commands.play import episode

    episode.play(
        what,
        settings or [],
        policy=policy,
        split=split,
        task_id=task,
        turns=turns,
        seed=seed,
        save=save,
        trust_env=trust_env,
    )
