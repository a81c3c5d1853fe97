"""Evaluations of a player that needs no model and no process: chance plays guess-the-number."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_rl.config import Config
from agent_rl.evaluation.playing import EvaluatedPlayer, run_evaluation, tasks_by_split
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.runs.trajectories import load_trajectories
from envs import Task, make_env
from rollouts import StopReason
from rollouts.players import RandomPlayer
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.seeds import derive_seed
from rollouts.workers.stream import OnEpisode

GAMES = 6
SFT_POLICY = EvaluatedPlayer(
    model="runs/m/sft/model",
    name="sft",
    identity="abc",
    weights="w",
    temperature=0.5,
    details={"dtype": "float32"},
)


class Chance:
    """Plays guess-the-number by chance, seeded by the call's seed and the task, as a policy is.

    It is interrupted after `stop_after` episodes; the tasks in `failing` end in an error. `calls`:
    the tasks of each call, by id, with the seed.
    """

    def __init__(self, *, stop_after: int | None = None, failing: tuple[str, ...] = ()) -> None:
        self.env = make_env("guess-the-number")
        self.stop_after, self.failing = stop_after, failing
        self.calls: list[tuple[list[str], int]] = []
        self.played = 0

    def __call__(self, tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
        self.calls.append(([task.id for task in tasks], seed))
        for task in reversed(tasks):
            if self.played == self.stop_after:
                raise KeyboardInterrupt
            player = RandomPlayer(self.env, derive_seed(seed, task.split, task.id))
            episode = asyncio.run(
                run_scripted_episode(
                    self.env, task, player, byte_renderer(), config(Path()).episode
                )
            )
            if task.id in self.failing:
                episode = replace(
                    episode, stop_reason=StopReason.ENV_ERROR, success=False, error="it broke"
                )
            self.played += 1
            on_episode(episode)


def config(folder: Path, **evaluation: Any) -> Config:
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "env": {"id": "guess-the-number"},
            "episode": {"max_turns": 10},
            "evaluation": {"split": "valid", "tasks": GAMES, **evaluation},
        }
    )


def run(
    settings: Config, play: Chance, player: EvaluatedPlayer = SFT_POLICY, **options: Any
) -> EvaluationReport:
    return run_evaluation(settings, player, tasks_by_split(settings, play.env), play, **options)


def folder_of(path: Path) -> Path:
    (found,) = [entry for entry in (path / "evaluations").iterdir() if entry.is_dir()]
    return found


def ids(path: Path) -> list[str]:
    return [episode.task.id for episode in load_trajectories(path)]
