"""The command `agent-rl compare`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.config import ConfigError


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="folders of runs, of copies of runs, of sweeps"),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="the folder to write; default: the sweep's, or comparison/ next to the first run"
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="compare on this split; repeatable; default: all splits that all have"),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=GLOB", help="name the variant whose run folders match; repeatable"
        ),
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(help="also show a published row, for example grpo-1.5b; repeatable"),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="test each variant against this one; default: all pairs")
    ] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="no paired tests; for runs over different games")
    ] = False,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="copy the runs' configs, metrics and evaluations there: the comparison's sources"
        ),
    ] = None,
) -> None:
    """Compare runs: learning curves, success per family, paired tests, the mechanism.

    Runs that differ only in the seed are the seeds of one variant. Writes Markdown, JSON and two
    pictures.
    """
    from agent_rl.commands.compare.report import compare_folders

    compare_folders(
        runs,
        to=to,
        splits=split or (),
        labels=dict(_label(text) for text in label or ()),
        references=reference or (),
        against=against,
        paired=not unpaired,
        kept=keep,
    )


def _label(text: str) -> tuple[str, str]:
    """The name and the glob of a `--label`."""
    name, equals, glob = text.partition("=")
    if not (name and equals and glob):
        raise ConfigError(f"--label {text}: write NAME=GLOB, for example 'GMPO=gmpo-s*'")
    return name, glob
