"""The command `agent-rl report`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.commands.report.limits import EPISODES_MB


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="folders of runs, of copies of runs, of sweeps"),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            help="the page to write; default: report.html in the run or sweep, or next to several"
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="write it again whenever a run has a new step")
    ] = False,
    episodes_mb: Annotated[
        float,
        typer.Option(min=0.0, help="the most megabytes of episodes; beyond it they are sampled"),
    ] = EPISODES_MB,
) -> None:
    """Show runs as one HTML page: how they ended, curves, evaluations, every episode.

    The page needs no server and no network. A run may still be going on, or have failed.
    """
    from agent_rl.commands.report.report import watch_runs, write_report

    if watch:
        watch_runs(runs, output, episodes_mb=episodes_mb)
    else:
        write_report(runs, output, episodes_mb=episodes_mb)
