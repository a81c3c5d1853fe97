"""Many episodes at once, over Ray's processes: the only file that imports ray, and only when a pool is built.

`RolloutWorker` and `ServedPolicy` are ordinary classes; Ray adds the processes around them, here.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from envs import Task
from rollouts.lifeline import end_with
from rollouts.schedule import Schedule
from rollouts.seeds import derive_seed
from rollouts.served_policy import ServedPolicy, model_context_length
from rollouts.settings import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.types import Completion, StopReason, Trajectory, TrajectoryGroup
from rollouts.worker import RolloutWorker, WorkerPlan

OnEpisode = Callable[[Trajectory], None]

_BACKLOG = 2
"""Episodes that wait at a worker beside those that play, so that a freed environment never waits for the driver."""


class RemotePolicy:
    """The `Policy` that lives in the policy actor, seen from a worker's process."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        import asyncio

        import ray

        request = self._actor.complete.remote(
            token_ids, max_tokens=max_tokens, temperature=temperature, stop_token_ids=stop_token_ids, seed=seed
        )
        try:
            completion: Completion = await request
        except asyncio.CancelledError:
            ray.cancel(request)
            raise
        return completion


@dataclass(frozen=True)
class _Job:
    """One episode to play: where its trajectory belongs, and the worker's method (with arguments) that plays it."""

    index: int
    task: Task
    method: str
    arguments: dict[str, Any]


class RolloutPool:
    """Worker processes with environments, and the served policy. Close it, or use it as a context manager.

    With `serve=False` no engine runs until `start_policy`; experts need none. All methods block.
    """

    def __init__(
        self,
        *,
        env_id: str,
        env_options: dict[str, Any],
        model_folder: str | Path,
        prompt: PromptSettings,
        episode: EpisodeSettings,
        serving: ServingSettings,
        workers: WorkerSettings,
        serve: bool = True,
        version: int = 0,
    ) -> None:
        """Start Ray in this machine, the workers and (with `serve`) the engine, all at the same time.

        Raises:
            ValueError: the model folder, the context length, the tokenizer or the environment is not usable.
        """
        self._plan = WorkerPlan(
            env_id=env_id,
            env_options=env_options,
            envs=workers.envs_per_worker,
            model_folder=Path(model_folder).absolute(),
            prompt=prompt,
            episode=episode,
            context_length=model_context_length(model_folder, serving),
        )
        self._serving = serving
        self._owns_ray = _start_ray()
        self._policy: Any = None
        self._workers: list[Any] = []
        try:
            self._workers = [self._new_worker() for _ in range(workers.count)]
            starting = [worker.start.remote() for worker in self._workers]
            if serve:
                self._policy = self._new_policy(model_folder, version)
            _get(starting)
            if serve:
                self._connect(self._workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RolloutPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def context_length(self) -> int:
        """In tokens, as served."""
        return self._plan.context_length

    def tasks(self, split: str) -> list[Task]:
        """The environment's tasks of a split (ValueError where it has none)."""
        tasks: list[Task] = _get(self._workers[0].tasks.remote(split))
        return tasks

    def start_policy(self, model_folder: str | Path | None = None, *, version: int = 0) -> None:
        """Start the engine, where `serve` was False, with the weights of `model_folder` (default: the pool's)."""
        assert self._policy is None, "the policy is already being served"
        self._policy = self._new_policy(model_folder or self._plan.model_folder, version)
        self._connect(self._workers)

    def sync_weights(self, folder: str | Path, version: int) -> None:
        """Serve the weights in `folder`, which every process of the pool can read, as `version`."""
        _get(self._policy.load_weights.remote(str(folder), version))

    def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        temperature: float,
        seed: int,
        on_episode: OnEpisode | None = None,
    ) -> list[TrajectoryGroup]:
        """Play every task `group_size` times: one group a task, in the order of `tasks`.

        An episode's seeds depend on `seed`, its task and its number in the group, not on who plays it when.
        `on_episode` is called with each trajectory as it ends.

        Raises:
            ValueError: a task cannot be played by anybody (see `run_episode`).
            RuntimeError: the engine died.
        """
        groups = [
            [
                ("run", task, {"temperature": temperature, "seed": derive_seed(seed, task.split, task.id, member)})
                for member in range(group_size)
            ]
            for task in tasks
        ]
        played = self._play(groups, on_episode)
        if any(episode.stop_reason is StopReason.POLICY_ERROR for episode in played):
            self._check_policy(played)
        members = [tuple(played[i : i + group_size]) for i in range(0, len(played), group_size)]
        return [TrajectoryGroup(task=task, trajectories=group) for task, group in zip(tasks, members, strict=True)]

    def collect_expert(
        self, tasks: Sequence[Task], *, noise: float, seed: int, on_episode: OnEpisode | None = None
    ) -> list[Trajectory]:
        """Let the environment's expert play every task once (see `run_expert_episode`); needs no engine."""
        groups = [
            [("run_expert", task, {"noise": noise, "seed": derive_seed(seed, task.split, task.id, index)})]
            for index, task in enumerate(tasks)
        ]
        return self._play(groups, on_episode)

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        import ray
        from ray.exceptions import RayError

        if self._policy is not None:
            try:
                ray.get(self._policy.shutdown.remote(), timeout=10)
            except RayError:
                logging.getLogger(__name__).debug("the policy actor was gone before it was shut down", exc_info=True)
        for actor in (*self._workers, *([] if self._policy is None else [self._policy])):
            ray.kill(actor)
        self._workers, self._policy = [], None
        if self._owns_ray:
            self._owns_ray = False
            ray.shutdown()

    def _play(
        self, groups: Sequence[Sequence[tuple[str, Task, dict[str, Any]]]], on_episode: OnEpisode | None
    ) -> list[Trajectory]:
        """Play all jobs, keeping every worker busy; trajectories in the order of the jobs."""
        import ray
        from ray.exceptions import RayActorError

        count = sum(len(group) for group in groups)
        numbers = iter(range(count))
        schedule = Schedule(
            [[_Job(next(numbers), t, m, a) for m, t, a in group] for group in groups], len(self._workers)
        )
        played: dict[int, Trajectory] = {}
        in_flight: dict[Any, tuple[int, Any, _Job]] = {}

        def feed(worker: int) -> None:
            load = sum(1 for at, _, _ in in_flight.values() if at == worker)
            for _ in range(self._plan.envs + _BACKLOG - load):
                job = schedule.next(worker)
                if job is None:
                    return
                actor = self._workers[worker]
                in_flight[getattr(actor, job.method).remote(job.task, **job.arguments)] = (worker, actor, job)

        try:
            for worker in range(len(self._workers)):
                feed(worker)
            while in_flight:
                (done,), _ = ray.wait(list(in_flight), num_returns=1)
                worker, actor, job = in_flight.pop(done)
                try:
                    episode: Trajectory = _get(done)
                except RayActorError as error:
                    episode = _lost(job.task, error)
                    self._replace(worker, actor)
                played[job.index] = episode
                if on_episode is not None:
                    on_episode(episode)
                feed(worker)
        finally:
            for request in in_flight:
                ray.cancel(request)
        return [played[index] for index in range(count)]

    def _new_worker(self) -> Any:
        concurrency = self._plan.envs + _BACKLOG + 2
        # Ray's processes do not inherit the driver's module path, and an environment of the user's own is found on it.
        path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        return _actor(RolloutWorker, max_concurrency=concurrency, environment=environment)(self._plan)

    def _new_policy(self, model_folder: str | Path, version: int) -> Any:
        environment = {"OMP_NUM_THREADS": str(self._serving.threads)}
        new = _actor(ServedPolicy, max_concurrency=4096, gpus=_gpus(), environment=environment)
        return new(Path(model_folder).absolute(), self._serving, version=version)

    def _connect(self, workers: Sequence[Any]) -> None:
        _get(self._policy.check_health.remote())
        _get([worker.connect.remote(RemotePolicy(self._policy)) for worker in workers])

    def _replace(self, worker: int, dead: Any) -> None:
        """Start a new process for a worker that died, once: all its episodes come back with the same news."""
        if self._workers[worker] is not dead:
            return
        self._workers[worker] = self._new_worker()
        _get(self._workers[worker].start.remote())
        if self._policy is not None:
            self._connect([self._workers[worker]])

    def _check_policy(self, played: Sequence[Trajectory]) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            ray.get(self._policy.check_health.remote())
        except RayError as error:
            texts = {episode.error for episode in played if episode.stop_reason is StopReason.POLICY_ERROR}
            raise RuntimeError(f"the serving engine died: {'; '.join(sorted(texts))[:2000]}") from error


def _lost(task: Task, error: Exception) -> Trajectory:
    return Trajectory(
        task=task,
        turns=(),
        stop_reason=StopReason.ENV_ERROR,
        success=False,
        error=f"the process that held the environment died: {error}",
    )


def _actor(cls: type, *, max_concurrency: int, environment: dict[str, str], gpus: float = 0) -> Callable[..., Any]:
    """The constructor of `cls` in a process of its own, which ends with this one.

    A dead actor stays dead: the pool decides what follows.
    """
    import ray

    driver, machine = os.getpid(), socket.gethostname()

    class Actor(cls):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            if socket.gethostname() == machine:  # on another one of a cluster, the number is somebody else's
                end_with(driver)
            super().__init__(*arguments, **settings)

    Actor.__name__ = Actor.__qualname__ = cls.__name__
    remote = ray.remote(Actor).options(
        num_cpus=0,
        num_gpus=gpus,
        max_concurrency=max_concurrency,
        max_restarts=0,
        max_task_retries=0,
        runtime_env={"env_vars": environment},
    )
    return partial(remote.remote)


def _gpus() -> float:
    import ray

    return min(1.0, float(ray.cluster_resources().get("GPU", 0.0)))


def _start_ray() -> bool:
    """Start Ray in this machine, quietly; False where this process has one already."""
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        num_cpus=0,  # what is started here asks for none; with more, Ray starts idle workers in advance
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=True,
    )
    return True


def _get(references: Any) -> Any:
    """`ray.get`, with a user's error as the ValueError that was raised."""
    import ray
    from ray.exceptions import RayTaskError

    try:
        return ray.get(references)
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise ValueError(str(error.cause)) from None
        raise
