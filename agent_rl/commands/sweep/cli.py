"""The command `agent-rl sweep`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.stages.cli import RayAddress
from agent_rl.config import ConfigError


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
    only: Annotated[
        str | None,
        typer.Option(metavar="GLOB", help="only variants of such names: 'gmpo-*,grpo-old-*'"),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="only show the plan and progress")] = False,
    map_: Annotated[
        bool, typer.Option("--map", help="only show what the grid says so far, and write it")
    ] = False,
    over: Annotated[
        str | None, typer.Option(metavar="AXIS", help="the axis of --map; default: the last one")
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="two variants that --map compares; repeatable"),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="the folder that --map writes; default: the sweep's")
    ] = None,
    ray_address: RayAddress = None,
) -> None:
    """Train variants with several seeds from one start; evaluate and compare them.

    The same command resumes a sweep that was stopped. A sweep with a grid has a map in place of the
    comparison.
    """
    from agent_rl.commands.sweep.plan import read_sweep

    checked = read_sweep(config, overrides or [], objectives=objectives, seeds=seeds, only=only)
    if map_:
        from agent_rl.commands.sweep.grid_report import show_grid

        show_grid(checked, over=over, pairs=pair or (), to=to)
        return
    if over or pair or to:
        raise ConfigError("--over, --pair and --to go with --map")
    # Only now, because a typo in the config should not have to wait for torch.
    from agent_rl.commands.sweep.run import make_plan, run_sweep, show_plan

    if plan:
        show_plan(make_plan(checked))
        return
    status = run_sweep(checked)
    if status:
        raise typer.Exit(status)
