"""Many episodes at once, over Ray, which is imported only when a pool is built.

`RolloutWorker` and `ServedPolicy` are ordinary classes; Ray adds the processes around them, here.
"""

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from envs import Task
from rollouts.players import PlayerName
from rollouts.processes.ray_processes import get, gpus_there, process_of, start_ray, stop_ray
from rollouts.seeds import derive_seed
from rollouts.serving.exchange import Answer, CompletionRequest, Exchange, PolicyClient
from rollouts.serving.served_policy import ServedPolicy, model_context_length
from rollouts.settings import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.types import StopReason, Trajectory, TrajectoryGroup
from rollouts.workers.calls import CallPage
from rollouts.workers.dealing import Schedule
from rollouts.workers.jobs import Job, group_jobs, settle
from rollouts.workers.worker import RolloutWorker, WorkerPlan

OnEpisode = Callable[[Trajectory], None]

_BACKLOG = 2
"""Episodes that wait at a worker beside those that play, so that a freed environment never waits
for the driver.
"""
_LOOK_SECONDS = 1.0
"""How often the pool looks for a call that does not return, at least."""


class RemotePolicy(PolicyClient):
    """The `Policy` that lives in the policy actor, seen from a worker's process."""

    def __init__(self, actor: Any, name: str) -> None:
        super().__init__()
        self._actor = actor
        self._name = name

    def send(self, requests: Sequence[CompletionRequest]) -> Awaitable[list[Answer]]:
        answers: Awaitable[list[Answer]] = self._actor.exchange.remote(self._name, requests)
        return answers

    def send_cancel(self, number: int) -> None:
        self._actor.cancel.remote(self._name, number)


class PolicyActor(ServedPolicy):
    """The served policy, asked by the workers for many completions at a time."""

    def __init__(self, model_folder: Path, settings: ServingSettings, *, version: int) -> None:
        super().__init__(model_folder, settings, version=version)
        self._exchange = Exchange(self)

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        return await self._exchange.exchange(client, requests)

    async def cancel(self, client: str, number: int) -> None:
        self._exchange.cancel(client, number)


class RolloutPool:
    """Worker processes with environments, and the served policy. Close it, or use it as a context
    manager.

    With `serve=False` no engine runs until `start_policy`; experts need none. All methods block. A
    worker that died, or was ended as an environment in it did not return, is replaced, and its
    other episodes are played again.
    """

    def __init__(
        self,
        *,
        env_id: str,
        env_options: dict[str, Any],
        model_folder: str | Path | None,
        prompt: PromptSettings,
        episode: EpisodeSettings,
        serving: ServingSettings,
        workers: WorkerSettings,
        serve: bool = True,
        version: int = 0,
    ) -> None:
        """Start Ray in this machine, the workers and (with `serve`) the engine, all at the same
        time.

        Without a `model_folder` there is nothing to serve, and the tokens of the players' episodes
        are bytes.

        Raises:
            ValueError: the model folder, the context length, the tokenizer or the environment is
            not usable.
        """
        self._plan = WorkerPlan(
            env_id=env_id,
            env_options=env_options,
            envs=workers.envs_per_worker,
            model_folder=None if model_folder is None else Path(model_folder).absolute(),
            prompt=prompt,
            episode=episode,
            context_length=None
            if model_folder is None
            else model_context_length(model_folder, serving),
        )
        self._serving = serving
        start_ray()
        self._open = True
        self._policy: Any = None
        self._workers: list[Any] = []
        self._folder = TemporaryDirectory(prefix="agent-rl-calls-")
        pages = [Path(self._folder.name, str(number)) for number in range(workers.count)]
        self._pages = [CallPage(path) for path in pages]
        try:
            self._workers = [self._new_worker(path) for path in pages]
            starting = [worker.start.remote() for worker in self._workers]
            if serve and model_folder is not None:
                self._policy = self._new_policy(model_folder, version)
            get(starting)
            if self._policy is not None:
                self._connect(self._workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RolloutPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start_policy(self, model_folder: str | Path | None = None, *, version: int = 0) -> None:
        """Start the engine, where `serve` was False, with the weights of `model_folder` (default:
        the pool's).
        """
        assert self._policy is None, "the policy is already being served"
        folder = model_folder or self._plan.model_folder
        assert folder is not None, "no model was named"
        self._policy = self._new_policy(folder, version)
        self._connect(self._workers)

    def sync_weights(self, folder: str | Path, version: int) -> None:
        """Serve the weights in `folder`, which every process of the pool can read, as `version`."""
        get(self._policy.load_weights.remote(str(folder), version))

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

        An episode's seeds depend on `seed`, its task and its number among the task's episodes, not
        on who plays it when; so the groups of a task that comes twice differ. `on_episode` is
        called with each trajectory as it ends.

        Raises:
            ValueError: a task cannot be played by anybody (see `run_episode`).
            RuntimeError: the engine died.
        """
        played = self._play(
            group_jobs(tasks, group_size, temperature=temperature, seed=seed), on_episode
        )
        if any(episode.stop_reason is StopReason.POLICY_ERROR for episode in played):
            self._check_policy(played)
        members = [tuple(played[i : i + group_size]) for i in range(0, len(played), group_size)]
        return [
            TrajectoryGroup(task=task, trajectories=group)
            for task, group in zip(tasks, members, strict=True)
        ]

    def collect_scripted(
        self,
        tasks: Sequence[Task],
        *,
        player: PlayerName,
        noise: float = 0.0,
        seed: int,
        on_episode: OnEpisode | None = None,
    ) -> list[Trajectory]:
        """Let the environment's expert, or chance, play every task once (see
        `run_scripted_episode`); needs no engine.

        Raises:
            ValueError: the environment has no expert, or a task cannot be played by anybody.
        """

        def job(number: int, task: Task) -> Job:
            drawn = derive_seed(seed, task.split, task.id, number)
            arguments = {"player": player, "noise": noise, "seed": drawn}
            return Job(number=number, task=task, method="run_scripted", arguments=arguments)

        return self._play([[job(number, task)] for number, task in enumerate(tasks)], on_episode)

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        import ray
        from ray.exceptions import RayError

        if self._policy is not None:
            try:
                ray.get(self._policy.shutdown.remote(), timeout=10)
            except RayError:
                logging.getLogger(__name__).debug(
                    "the policy actor was gone before it was shut down", exc_info=True
                )
        for actor in (*self._workers, *([] if self._policy is None else [self._policy])):
            ray.kill(actor)
        self._workers, self._policy = [], None
        self._folder.cleanup()
        if self._open:
            self._open = False
            stop_ray()

    def _play(
        self, groups: Sequence[Sequence[Job]], on_episode: OnEpisode | None
    ) -> list[Trajectory]:
        """Play all jobs, keeping every worker busy; trajectories by the jobs' numbers."""
        import ray
        from ray.exceptions import RayActorError

        schedule = Schedule(groups, len(self._workers))
        played: dict[int, Trajectory] = {}
        in_flight: dict[Any, tuple[int, Job]] = {}

        def feed(worker: int) -> None:
            load = sum(1 for at, _ in in_flight.values() if at == worker)
            for _ in range(self._plan.envs + _BACKLOG - load):
                job = schedule.next(worker)
                if job is None:
                    return
                play = getattr(self._workers[worker], job.method)
                in_flight[play.remote(job.task, **job.arguments, number=job.number)] = (worker, job)

        def end(job: Job, episode: Trajectory) -> None:
            played[job.number] = episode
            if on_episode is not None:
                on_episode(episode)

        try:
            for worker in range(len(self._workers)):
                feed(worker)
            while in_flight:
                done, _ = ray.wait(list(in_flight), num_returns=1, timeout=_LOOK_SECONDS)
                self._end_hung_workers()
                for request in done:
                    worker, job = in_flight.pop(request)
                    try:
                        end(job, get(request))
                    except RayActorError as error:
                        with_it = [other for other, (at, _) in in_flight.items() if at == worker]
                        lost = [job, *(in_flight.pop(other)[1] for other in with_it)]
                        over, again = self._bury(worker, lost, error)
                        for one, episode in over:
                            end(one, episode)
                        schedule.put_back(worker, again)
                    feed(worker)
        finally:
            for request in in_flight:
                ray.cancel(request)
        return [played[number] for number in sorted(played)]

    def _end_hung_workers(self) -> None:
        """A call that does not return holds up its whole process, threads and all: it is ended from
        here.
        """
        import ray

        for actor, page in zip(self._workers, self._pages, strict=True):
            call = page.read()
            if call is not None and call.seconds > self._plan.episode.env_timeout_seconds:
                ray.kill(actor)

    def _bury(
        self, worker: int, lost: Sequence[Job], error: Exception
    ) -> tuple[list[tuple[Job, Trajectory]], list[Job]]:
        """Replace a worker that died; what becomes of the jobs that it had (see `settle`)."""
        page = self._pages[worker]
        limit, news = self._plan.episode.env_timeout_seconds, str(error).partition("\n")[0]
        settled = settle(lost, page.read(), limit_seconds=limit, news=news)
        page.end()
        self._workers[worker] = self._new_worker(Path(self._folder.name, str(worker)))
        get(self._workers[worker].start.remote())
        if self._policy is not None:
            self._connect([self._workers[worker]])
        return settled

    def _new_worker(self, calls: Path) -> Any:
        concurrency = self._plan.envs + _BACKLOG + 2
        # Ray's processes do not inherit the driver's module path, and an environment of the user's
        # own is found on it.
        path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        return process_of(RolloutWorker, max_concurrency=concurrency, environment=environment)(
            self._plan, calls=calls
        )

    def _new_policy(self, model_folder: str | Path, version: int) -> Any:
        environment = {"OMP_NUM_THREADS": str(self._serving.threads)}
        gpus = min(1, gpus_there())
        new = process_of(PolicyActor, max_concurrency=4096, gpus=gpus, environment=environment)
        return new(Path(model_folder).absolute(), self._serving, version=version)

    def _connect(self, workers: Sequence[Any]) -> None:
        get(self._policy.check_health.remote())
        get([worker.connect.remote(RemotePolicy(self._policy, uuid4().hex)) for worker in workers])

    def _check_policy(self, played: Sequence[Trajectory]) -> None:
        import ray
        from ray.exceptions import RayError

        try:
            ray.get(self._policy.check_health.remote())
        except RayError as error:
            texts = {
                episode.error
                for episode in played
                if episode.stop_reason is StopReason.POLICY_ERROR
            }
            raise RuntimeError(
                f"the serving engine died: {'; '.join(sorted(texts))[:2000]}"
            ) from error
