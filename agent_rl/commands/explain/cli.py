"""The command `agent-rl explain`."""

from pathlib import Path
from typing import Annotated

import typer

from agent_rl.runs.episode_ids import EpisodeId


def explain(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="a run's folder")],
    episode: Annotated[
        str, typer.Option(help="STEP/GROUP/MEMBER, such as 12/3/5; with --step GROUP/MEMBER")
    ],
    step: Annotated[
        int | None, typer.Option(help="the rollout step, if --episode has none")
    ] = None,
    turn: Annotated[int | None, typer.Option(help="only this turn, with each token")] = None,
) -> None:
    """Show turn by turn what of an episode was trained, with which weight, and why not the rest."""
    episode_id = EpisodeId.parse(episode if step is None else f"{step}/{episode}")
    from agent_rl.commands.explain.explanation import explanation_of
    from agent_rl.commands.explain.shown import show_explanation

    show_explanation(explanation_of(run, episode_id), only_turn=turn)
