"""The command `agent-rl sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.stages.cli import RayAddress


def sweep(
    config: Annotated[
        Path, typer.Argument(help="YAML config with a section sweep, or with --objectives")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key.path=value for all runs, for example train.rollout_steps=50"),
    ] = None,
    objectives: Annotated[
        str | None, typer.Option(help="replaces sweep.variants: gmpo,grpo,gspo,dr_grpo")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="replaces sweep.seeds: 0,1,2")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="only show the plan and progress")] = False,
    ray_address: RayAddress = None,
) -> None:
    """Train variants with several seeds from one start; evaluate and compare them.

    The same command resumes a sweep that was stopped.
    """
    from agent_rl.commands.sweep.plan import read_sweep

    checked = read_sweep(config, overrides or [], objectives=objectives, seeds=seeds)
    # Only now, because a typo in the config should not have to wait for torch.
    from agent_rl.commands.sweep.run import make_plan, run_sweep, show_plan

    if plan:
        show_plan(make_plan(checked))
        return
    status = run_sweep(checked)
    if status:
        raise typer.Exit(status)
