"""A session without an engine: it deals the same two episodes of each task, one won, one lost."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch

from agent_rl.config import Config
from agent_rl.learner.learner import Learner
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.saving import save_policy
from agent_rl.training.loop import TrainingLoop, learner_context
from agent_rl.training.session import Session
from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.workers.usage import Usage
from tests.builders.episodes import trajectory, turn
from tests.builders.tiny_learner import make_tiny_model


class ScriptedSession:
    """Stands for a `Session`; a test may replace what happens when it plays and when it syncs."""

    def __init__(self) -> None:
        self.model = make_tiny_model(dtype=torch.float32)
        self.tokenizer = train_tokenizer(["a room"], 260)
        self.version = 0
        self.played: list[str] = []
        """The tasks, in the order in which they were played."""
        self.on_play: Callable[[], None] = lambda: None
        self.on_sync: Callable[[], None] = lambda: None
        self.on_sleep: Callable[[], None] = lambda: None
        self.on_usage: Callable[[], None] = lambda: None

    def tasks(self, split: str) -> list[Task]:
        return [Task(env_id="e", split=split, family="f", id=f"t{n}") for n in range(9)]

    def begin(
        self, task: Task, *, on_episode: Callable[[Trajectory], None], **_: Any
    ) -> Future[list[Trajectory]]:
        self.played.append(task.id)
        self.on_play()
        won = trajectory(turn((1, 5), (3, 2), reward=1.0), task=task)
        lost = trajectory(turn((1, 5), (4, 2)), task=task, stop_reason=StopReason.MAX_TURNS)
        for episode in (won, lost):
            on_episode(episode)
        result: Future[list[Trajectory]] = Future()
        result.set_result([won, lost])
        return result

    def usage(self) -> Usage:
        self.on_usage()
        return Usage()

    def sleep(self) -> None:
        self.on_sleep()

    def sync(self) -> None:
        self.version += 1
        self.on_sync()


class OwnProcessLearner(Learner):
    """Stands for `LearnerProcesses`, in this process: a loop's tests need no Ray."""

    def __init__(self, session: ScriptedSession, config: Config, folder: Path) -> None:
        super().__init__(session.model, config.learner, learner_context(config, folder))
        self._tokenizer = session.tokenizer

    def save_model(self, folder: Path) -> None:
        save_policy(self.model, self._tokenizer, folder)


def loop_config(folder: Path, *, learner: dict[str, Any] | None = None, **train: Any) -> Config:
    """A config of six rollout steps of one task, with a checkpoint at the end only."""
    of_learner = {"optimizer_steps": 1, "learning_rate": 1e-2, "device": "cpu", **(learner or {})}
    settings = {"rollout_steps": 6, "tasks_per_step": 1, "num_generations": 2}
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "learner": of_learner,
            "train": {**settings, "checkpoint_every": 0, **train},
        }
    )


def scripted_loop(
    folder: Path,
    checkpoint: Path | None = None,
    *,
    learner: dict[str, Any] | None = None,
    **train: Any,
) -> tuple[TrainingLoop, ScriptedSession]:
    """A loop in `folder` on a scripted session, new or resumed."""
    session = ScriptedSession()
    config = loop_config(folder, learner=learner, **train)
    stage = folder / "train"
    trained = cast("LearnerProcesses", OwnProcessLearner(session, config, stage))
    loop = TrainingLoop(config, cast("Session", session), stage, trained, checkpoint=checkpoint)
    return loop, session


def run_with_records(folder: Path) -> None:
    """Two rollout steps with records of their tokens, in which ratios leave the bounds."""
    learner = {"optimizer_steps": 2, "learning_rate": 0.1, "warmup_steps": 0}
    loop, _ = scripted_loop(folder, learner=learner, keep_token_records=True)
    for _ in range(2):
        loop.rollout_step()
    loop.close()
