"""Evaluation reports and run folders for tests, as the product writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_rl.config import Config, dump_config
from agent_rl.evaluation.report import EvaluationReport, summarize
from agent_rl.runs.layout import RunLayout, StageLayout, missing_files
from envs import Task
from rollouts import StopReason, Trajectory
from tests.builders.episodes import trajectory, turn

Outcomes = Mapping[str, Sequence[bool]]
"""The outcomes of each game's repeats, by the game's id."""


def report(splits: Mapping[str, Outcomes] | None = None, **setting: Any) -> EvaluationReport:
    """A report on games of one turn; by default one game won and one lost on `valid_seen`.

    The family of a game is its id without the number: `pick` for `pick1`. A game with fewer
    outcomes than another was not scored in the last repeats.
    """
    if splits is None:
        splits = {"valid_seen": {"a1": [True], "b1": [False]}}
    episodes = {}
    for split, outcomes in splits.items():
        repeats: list[list[Trajectory]] = []
        for game, wins in outcomes.items():
            for number, won in enumerate(wins):
                if number == len(repeats):
                    repeats.append([])
                repeats[number].append(_episode(game, split, won))
        episodes[split] = repeats or [[]]
    return summarize(episodes, setting)


def write_run(
    folder: Path,
    *,
    steps: int = 3,
    metrics: Callable[[int], Mapping[str, float]] = lambda step: {"rollout/success": step / 10},
    **config: Any,
) -> Path:
    """A run that trained for `steps` rollout steps: its config and its metrics.

    Args:
        folder: the run's folder, which is returned.
        steps: lines in the metrics' file.
        metrics: the metrics of a rollout step, counted from 1.
        config: values of the run's config.
    """
    train = RunLayout(folder).train
    train.folder.mkdir(parents=True)
    checked = Config.model_validate({"run_folder": str(folder), **config})
    train.config_file.write_text(dump_config(checked))
    with train.metrics_file.open("w") as file:
        for step in range(1, steps + 1):
            file.write(json.dumps({"step": step, **metrics(step)}) + "\n")
    return folder


def write_checkpoint(folder: Path, step: int) -> Path:
    """A checkpoint of the run in `folder` that counts as whole, with empty files; returns it."""
    checkpoint = RunLayout(folder).train.checkpoint(step)
    for name in missing_files(checkpoint):
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).touch()
    return checkpoint


def _episode(game: str, split: str, won: bool) -> Trajectory:
    task = Task(env_id="e", split=split, family=game.rstrip("0123456789"), id=game)
    reason = StopReason.SUCCESS if won else StopReason.MAX_TURNS
    return trajectory(turn(), task=task, stop_reason=reason)


def logged_steps(stage: StageLayout) -> list[int]:
    """The steps in a stage's metrics, in the order of the lines."""
    if not stage.metrics_file.is_file():
        return []
    whole = stage.metrics_file.read_text().rpartition("\n")[0]
    return [json.loads(line)["step"] for line in whole.splitlines()]


_OF_THE_MACHINE = (
    "time/",
    "engine/",
    "learner/seconds",
    "learner/tokens_per_second",
    "learner/model_flop_utilisation",
    "learner/peak_memory_gib",
)
"""Beginnings of the metrics that a clock, the load or the process's memory gives."""


def reproducible_metrics(stage: StageLayout) -> list[dict[str, float]]:
    """The metrics of each step without those that the machine gives."""
    whole = stage.metrics_file.read_text().rpartition("\n")[0]
    return [
        {
            name: value
            for name, value in json.loads(line).items()
            if not name.startswith(_OF_THE_MACHINE)
        }
        for line in whole.splitlines()
    ]
