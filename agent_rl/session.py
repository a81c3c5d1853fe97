"""A policy at work: the learner's model, the engine that serves it, and the processes that play with it."""

from pathlib import Path
from types import TracebackType
from typing import Any

from agent_rl.config import Config
from agent_rl.display import console, progress
from agent_rl.evaluation import EvaluationReport, summarize
from agent_rl.model import load_policy, load_to_train
from agent_rl.pool import noted, open_pool, play_scripted
from agent_rl.publisher import Publisher
from agent_rl.task_sampler import evaluation_tasks
from envs import Task, make_env
from rollouts import Trajectory, TrajectoryGroup
from rollouts.actors import RolloutPool


class Session:
    """The policy at `source` (a Hugging Face folder, a hub name or a `.gguf` file), ready to play and to learn.

    `model` is the learner's copy: whoever changes it calls `publish()`, so that the next episode is played by the new
    weights. Ray, the environments' processes and the serving engine start when they are first needed. Use it as a
    context manager.
    """

    def __init__(self, config: Config, source: str | Path, *, train: bool = False, resume: bool = False) -> None:
        """Load the policy. To `train`, it gets the adapter of `model.lora`, if there is one: the old one to `resume`.

        Raises:
            ValueError: there is no usable policy at `source`.
        """
        self.config = config
        if train:
            lora = config.model.lora
            self.model, self.tokenizer = load_to_train(str(source), lora, resume=resume, seed=config.seed)
        else:
            self.model, self.tokenizer = load_policy(str(source))
        self.publisher = Publisher(self.model, self.tokenizer, config.serving.dtype)
        self._env = make_env(config.env.id, **config.env.options)
        self._pool: RolloutPool | None = None

    def tasks(self, split: str) -> list[Task]:
        return self._env.tasks(split)

    def publish(self) -> None:
        """Make the model's present weights those that play."""
        self.publisher.write()
        if self._pool is not None:
            self._pool.sync_weights(self.publisher.folder, self.publisher.version)

    def play(
        self, tasks: list[Task], label: str, *, group_size: int, temperature: float, seed: int
    ) -> list[TrajectoryGroup]:
        """Play `group_size` episodes of each task with the published weights; a group per task, in their order."""
        if self._pool is None:
            with console.status("starting Ray, the environments and vLLM"):
                self._pool = open_pool(self.config, self.publisher.folder, serve=True, version=self.publisher.version)
        with progress(label, len(tasks) * group_size) as advance:
            return self._pool.collect(
                tasks, group_size=group_size, temperature=temperature, seed=seed, on_episode=noted(advance)
            )

    def play_expert(self, tasks: list[Task], *, noise: float, seed: int) -> list[Trajectory]:
        """Let the environment's expert play each task once, in the tokens of this policy."""
        if self._pool is not None:
            return play_scripted(self._pool, tasks, "expert", noise=noise, seed=seed)
        with open_pool(self.config, self.publisher.folder, serve=False) as pool:
            return play_scripted(pool, tasks, "expert", noise=noise, seed=seed)

    def evaluate(self, split: str | None = None, **setting: Any) -> tuple[EvaluationReport, list[Trajectory]]:
        """Play each evaluation task once with the published weights and score it; `setting` goes into the report."""
        settings = self.config.evaluation
        chosen = split or settings.split
        tasks = evaluation_tasks(self.config, self.tasks, chosen)
        groups = self.play(
            tasks,
            f"evaluation on {chosen}",
            group_size=1,
            temperature=settings.temperature,
            seed=self.config.seed,
        )
        trajectories = [group.trajectories[0] for group in groups]
        described = {"split": chosen, "temperature": settings.temperature, "seed": self.config.seed, **setting}
        return summarize(trajectories, described), trajectories

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
        self.publisher.close()
        self._env.close()

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
