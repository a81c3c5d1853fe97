"""The processes that play, as a config asks for them, and the episodes of players that need no
model.
"""

from collections.abc import Callable
from pathlib import Path

from agent_rl.config import Config
from agent_rl.display import progress
from envs import Task
from rollouts import Trajectory
from rollouts.players import PlayerName
from rollouts.workers.pool import PoolSettings, RolloutPool


def open_pool(
    config: Config, model_folder: Path | None, *, serve: bool, version: int = 0
) -> RolloutPool:
    """The config's workers, and the engine with `serve`."""
    settings = PoolSettings(
        env_id=config.env.id,
        env_options=config.env.options,
        prompt=config.prompt,
        episode=config.episode,
        serving=config.serving,
        workers=config.workers,
    )
    return RolloutPool(settings, model_folder, serve=serve, version=version)


def play_scripted(
    pool: RolloutPool, tasks: list[Task], player: PlayerName, *, seed: int, noise: float = 0.0
) -> list[Trajectory]:
    """Let `player` play each task once. The tokens are those of the pool's model; bytes where it
    has none.
    """
    with progress(f"{player} episodes", len(tasks)) as advance:
        return pool.collect_scripted(
            tasks, player=player, noise=noise, seed=seed, on_episode=noted(advance)
        )


def noted(advance: Callable[[str], None]) -> Callable[[Trajectory], None]:
    """A progress bar's step for each episode, with how it ended."""
    return lambda episode: advance(episode.stop_reason.value)
