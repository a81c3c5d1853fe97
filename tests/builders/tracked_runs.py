"""Stages with all that a tracker may be told, and a tracker that keeps what it is told."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_rl.runs.layout import RunLayout, StageLayout
from agent_rl.runs.trackers.tracker import TrackedRun, TrackedTable
from agent_rl.runs.trajectories import write_trajectories
from envs import Task
from rollouts import StopReason
from tests.builders.episodes import trajectory, turn
from tests.builders.runs import report, write_run


def tracked_stage(folder: Path, *, steps: int = 3, **tracking: Any) -> StageLayout:
    """The stage `train` of a run, whose metric `rollout/success` is a tenth of the step."""
    write_run(folder, steps=steps, tracking={"finish_seconds": 20.0, **tracking})
    return RunLayout(folder).train


def log_step(stage: StageLayout, step: int) -> None:
    """Append the line of a step."""
    with stage.metrics_file.open("a") as file:
        file.write(json.dumps({"step": step, "rollout/success": step / 10}) + "\n")


def evaluate_step(stage: StageLayout, step: int) -> None:
    """Write the report of a step: one of two games is won."""
    stage.evaluations.mkdir(exist_ok=True)
    report().write(stage.report(step))


def play_step(stage: StageLayout, step: int) -> None:
    """Write the episodes of a step: two groups of two, one of each won."""
    episodes = []
    for name in ("t1", "t2"):
        task = Task(env_id="e", split="s", family="f", id=name)
        episodes += [
            trajectory(turn(observation="A <b>room</b>.", reward=1.0), task=task),
            trajectory(turn(), task=task, stop_reason=StopReason.MAX_TURNS),
        ]
    write_trajectories(stage.step_episodes(step), episodes)


def described(folder: Path, known_as: str = "") -> TrackedRun:
    """A run named `r`, as an adapter gets it."""
    return TrackedRun(
        project="agent_rl",
        name="r",
        group="r",
        stage="train",
        config={"seed": 3, "learner.objective": "gmpo", "env.options": {}},
        folder=folder,
        known_as=known_as,
        finish_seconds=10.0,
    )


class KeepingTracker:
    """Keeps what it is told, in order; raises `error` once if that is set."""

    run_id = "kept"

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []
        self.metrics: list[Mapping[str, float]] = []
        self.tables: list[TrackedTable] = []
        self.error: Exception | None = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.told.append(("metrics", step))
        self.metrics.append(metrics)

    def table(self, step: int, table: TrackedTable) -> None:
        self.told.append((table.name, step))
        self.tables.append(table)

    def finish(self, *, complete: bool) -> None:
        self.told.append(("finish", int(complete)))
