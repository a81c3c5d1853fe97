"""`agent-rl evaluate`: success of a policy, of the environment's expert or of random commands.

Light to import, because evaluating a player loads no model: the functions for policies import
everything about models.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING

from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import Config
from agent_rl.display import console
from agent_rl.evaluation.playing import (
    EvaluatedPlayer,
    Outputs,
    Play,
    policy_name,
    run_evaluation,
    tasks_by_split,
)
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.tasks import open_environment
from agent_rl.training.pool import open_pool, play_scripted
from envs import Task
from rollouts.players import PlayerName
from rollouts.workers.stream import OnEpisode

if TYPE_CHECKING:
    from agent_rl.training.session import Session


def evaluate(
    config: Config,
    *,
    model: str | None = None,
    player: PlayerName | None = None,
    again: bool = False,
    outputs: Outputs | None = None,
) -> EvaluationReport:
    """Evaluate a policy or a player as `config.evaluation` says; print and write the report.

    Episodes of an earlier call are not played again. Report and episodes are written to
    `<run_folder>/evaluations/`.

    Args:
        model: the path or hub name of a policy; None is the run's newest.
        player: `expert` or `random`, in place of a policy.
        again: play all games again.
        outputs: further files to write the report to.
    """
    if player is None:
        source = model or starting_policy(config)
        evaluated = evaluated_policy(config, source)
        open_play = partial(_open_policy, config, source)
    else:
        # A pool draws the seeds of scripted episodes for all tasks of a call together.
        evaluated = EvaluatedPlayer(model=player, name=player, identity=player, whole_repeats=True)
        open_play = partial(_open_player, config, player)
    tasks = tasks_to_evaluate(config)
    with ExitStack() as stack:

        @cache
        def opened() -> Play:
            return stack.enter_context(open_play())

        def play(tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
            # Opened at the first missing episode: a whole evaluation starts no engine.
            opened()(tasks, label, seed, on_episode)

        return run_evaluation(config, evaluated, tasks, play, again=again, outputs=outputs)


def evaluate_in(session: "Session", source: str, *, outputs: Outputs | None = None) -> None:
    """Evaluate the policy that an open session serves; its files are at `source`."""
    config = session.config
    evaluated = evaluated_policy(config, source)
    tasks = tasks_to_evaluate(config)
    run_evaluation(config, evaluated, tasks, session.play_once, outputs=outputs)


def evaluated_policy(config: Config, source: str) -> EvaluatedPlayer:
    """The policy at `source`, identified by its files' content."""
    from agent_rl.policy.fingerprint import fingerprint
    from agent_rl.training.session import policy_details

    with console.status("reading the policy"):
        known = fingerprint(source, revision=config.model.revision_of(source))
    return EvaluatedPlayer(
        model=source,
        name=policy_name(source),
        identity=known.policy,
        weights=known.weights,
        temperature=config.evaluation.temperature,
        details=policy_details(config),
    )


def tasks_to_evaluate(config: Config) -> dict[str, list[Task]]:
    """The tasks of each split of `evaluation.split`.

    Raises:
        ConfigError: a split does not exist or has no tasks.
    """
    with console.status("listing the games"):
        env = open_environment(config)
        tasks = tasks_by_split(config, env)
        env.close()
    return tasks


@contextmanager
def _open_policy(config: Config, source: str) -> Iterator[Play]:
    from agent_rl.training.session import Session

    with Session(config, source) as session:
        yield session.play_once


@contextmanager
def _open_player(config: Config, player: PlayerName) -> Iterator[Play]:
    with open_pool(config, None, serve=False) as pool:

        def play(tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
            play_scripted(pool, tasks, player, seed=seed, label=label, on_episode=on_episode)

        yield play
