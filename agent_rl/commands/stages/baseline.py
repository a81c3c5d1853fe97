"""What a policy is compared with: the environment's expert and chance, evaluated as a policy is.
Loads no model.
"""

from contextlib import ExitStack
from functools import cache
from pathlib import Path

from agent_rl.config import Config
from agent_rl.display import console, progress
from agent_rl.evaluation.playing import EvaluatedPlayer, Outputs, run_evaluation, tasks_by_split
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.training.pool import noted, open_pool
from envs import Task, make_env
from rollouts import Trajectory
from rollouts.players import PlayerName
from rollouts.workers.pool import OnEpisode, RolloutPool


def evaluate_player(
    config: Config,
    player: PlayerName,
    *,
    again: bool = False,
    json: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
) -> EvaluationReport:
    """Let a player play the games that a policy is evaluated on: the same repeats, tables, report
    and files.
    """
    with console.status("listing the games"):
        env = make_env(config.env.id, **config.env.options)
        tasks = tasks_by_split(config, env)
        env.close()
    subject = EvaluatedPlayer(model=player, name=player, identity=player, whole_repeats=True)
    with ExitStack() as stack:

        @cache
        def pool() -> RolloutPool:
            return stack.enter_context(open_pool(config, None, serve=False))

        def play(tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
            with progress(label, len(tasks)) as advance:
                count = noted(advance)

                def ended(episode: Trajectory) -> None:
                    count(episode)
                    on_episode(episode)

                pool().collect_scripted(tasks, player=player, seed=seed, on_episode=ended)

        return run_evaluation(
            config,
            subject,
            tasks,
            play,
            again=again,
            outputs=Outputs(json=json, markdown=markdown, latex=latex),
        )
