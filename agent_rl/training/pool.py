"""The worker processes of a config, and episodes of players that need no model."""

from collections.abc import Callable
from pathlib import Path

from agent_rl.config import Config
from agent_rl.display import progress
from envs import Task
from rollouts import Trajectory
from rollouts.players import PlayerName
from rollouts.workers.pool import PoolSettings, RolloutPool
from rollouts.workers.stream import OnEpisode


def open_pool(
    config: Config, model_folder: Path | None, *, serve: bool, version: int = 0
) -> RolloutPool:
    """Start the config's workers, and the serving engine too if `serve` is true.

    Args:
        model_folder: the policy's files, whose tokenizer the workers use; None: they use bytes.
        version: the number of the policy's weights, which each turn records.
    """
    settings = PoolSettings(
        env_id=config.env.id,
        env_options=config.env.options,
        # The policy's tokenizer has the template, and another node may not have the file.
        prompt=config.prompt.model_copy(update={"template": ""}),
        episode=config.episode,
        serving=config.serving,
        workers=config.workers,
    )
    return RolloutPool(settings, model_folder, serve=serve, version=version)


def play_scripted(
    pool: RolloutPool,
    tasks: list[Task],
    player: PlayerName,
    *,
    seed: int,
    noise: float = 0.0,
    label: str = "",
    on_episode: OnEpisode | None = None,
) -> list[Trajectory]:
    """Let `player` play each task once; the episodes in the order of the tasks.

    Args:
        pool: its policy's tokenizer gives the tokens of the episodes.
        noise: the share of commands that are replaced by wrong ones.
        label: of the progress bar.
        on_episode: is called with each episode as it ends.
    """
    with progress(label or f"{player} episodes", len(tasks)) as advance:
        return pool.collect_scripted(
            tasks,
            player=player,
            noise=noise,
            seed=seed,
            on_episode=advance_per_episode(advance, on_episode),
        )


def advance_per_episode(advance: Callable[[str], None], then: OnEpisode | None) -> OnEpisode:
    """A function that advances a progress bar with each episode, and then calls `then`."""

    def on_end(episode: Trajectory) -> None:
        advance(episode.stop_reason.value)
        if then is not None:
            then(episode)

    return on_end
