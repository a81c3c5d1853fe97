"""Plays many episodes at once, in worker processes over Ray.

`RolloutWorker` and `PolicyActor` are ordinary classes. Ray puts each into a process here, and is
imported only when a pool is built.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

from envs import Task
from rollouts.players import PlayerName
from rollouts.processes.ray_processes import (
    death_of,
    get,
    gpu_share,
    process_of,
    start_ray,
    stop_ray,
)
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.model_config import model_context_length, require_kv_cache
from rollouts.serving.policy_actor import PolicyActor, RemotePolicy
from rollouts.settings import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.types import StopReason, Trajectory, TrajectoryGroup
from rollouts.workers.calls import CallPage
from rollouts.workers.dealing import Schedule
from rollouts.workers.jobs import EpisodeJob, Round, group_jobs, scripted_jobs, settle_jobs
from rollouts.workers.worker import RolloutWorker, WorkerPlan

OnEpisode = Callable[[Trajectory], None]
"""Called with each trajectory as soon as its episode ends."""

_LOOK_SECONDS = 1.0
"""The longest time between two looks for a call that does not return."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """The sections of a config that a pool needs."""

    env_id: str
    """The environment, as in `env.id`."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """The keyword arguments of the environment, as in `env.options`."""
    prompt: PromptSettings = field(default_factory=PromptSettings)
    """The format of the prompt."""
    episode: EpisodeSettings = field(default_factory=EpisodeSettings)
    """The limits and rewards of an episode."""
    serving: ServingSettings = field(default_factory=ServingSettings)
    """The serving engine."""
    workers: WorkerSettings = field(default_factory=WorkerSettings)
    """The worker processes."""

    def worker_plan(self, model_folder: Path | None) -> WorkerPlan:
        """Return the plan of one worker; without a model, tokens are bytes and have no limit.

        Raises:
            ValueError: the folder holds no model, or the model's context is too short.
        """
        context = None if model_folder is None else model_context_length(model_folder, self.serving)
        return WorkerPlan(
            env_id=self.env_id,
            env_options=self.env_options,
            envs=self.workers.envs_per_worker,
            model_folder=model_folder,
            prompt=self.prompt,
            episode=self.episode,
            context_length=context,
        )


class _DiedAtStart(ValueError):
    """A worker died before it could play."""


class RolloutPool:
    """Worker processes with environments, and the served policy. Use it as a context manager.

    Every method blocks until its work is done. A worker that dies, or hangs in an environment's
    call, is replaced, and its other episodes are played again.

        settings = PoolSettings(env_id="guess-the-number")
        with RolloutPool(settings, "runs/demo/init") as pool:
            groups = pool.collect(tasks, group_size=8, temperature=1.0, seed=0)
    """

    def __init__(
        self,
        settings: PoolSettings,
        model_folder: str | Path | None = None,
        *,
        serve: bool = True,
        version: int = 0,
    ) -> None:
        """Start Ray on this machine, the workers and the engine, all at the same time.

        Args:
            model_folder: holds the policy and its tokenizer. Without it nothing is served, and the
                tokens of the players' episodes are bytes.
            serve: whether to start the engine; expert episodes need none.
            version: the version of the weights in `model_folder`.

        Raises:
            ValueError: the model folder, the context length, the tokenizer or the environment is
                not usable; the environment's constructor does not return, or ends its process.
        """
        folder = None if model_folder is None else Path(model_folder).absolute()
        self._plan = settings.worker_plan(folder)
        self._serving = settings.serving
        if serve and folder is not None:
            _require_kv_cache(folder, settings.serving)
        self._most_restarts = settings.workers.max_restarts
        self._restarts = 0
        """Workers replaced since an episode ended."""
        start_ray()
        self._open = True
        self._policy: Any = None
        self._workers: list[Any] = []
        self._folder = TemporaryDirectory(prefix="agent-rl-calls-")
        paths = [Path(self._folder.name, str(n)) for n in range(settings.workers.count)]
        self._pages = [CallPage(path) for path in paths]
        try:
            # Nothing waits in these lines: the workers import and load while the engine starts.
            self._workers = [self._new_worker(path) for path in paths]
            starting = [worker.start.remote() for worker in self._workers]
            if serve and folder is not None:
                self._policy = self._new_policy(folder, version)
            self._wait_for_start(starting)
            if self._policy is not None:
                self._connect(self._workers)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "RolloutPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync_weights(self, folder: str | Path, version: int) -> None:
        """Serve the weights in `folder` as `version` from now on (see `ServedPolicy`)."""
        get(self._policy.sync_weights.remote(str(folder), version))

    def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        temperature: float,
        seed: int,
        on_episode: OnEpisode | None = None,
    ) -> list[TrajectoryGroup]:
        """Play every task `group_size` times; return one group per task, in the order of `tasks`.

        An episode's seed depends on `seed`, its task and its index among the task's episodes, and
        not on the worker. If a task comes twice, its two groups have different seeds.

        Raises:
            ValueError: `workers.max_restarts` is exceeded.
            RuntimeError: the engine died.
        """
        jobs = group_jobs(tasks, group_size, temperature=temperature, seed=seed)
        played = self._play(jobs, on_episode)
        if any(episode.stop_reason is StopReason.POLICY_ERROR for episode in played):
            self._check_policy(played)
        groups = []
        for index, task in enumerate(tasks):
            members = played[index * group_size : (index + 1) * group_size]
            groups.append(TrajectoryGroup(task=task, trajectories=tuple(members)))
        return groups

    def collect_scripted(
        self,
        tasks: Sequence[Task],
        *,
        player: PlayerName,
        noise: float = 0.0,
        seed: int,
        on_episode: OnEpisode | None = None,
    ) -> list[Trajectory]:
        """Let the expert or the random player play every task once; this needs no engine.

        Args:
            noise: the share of turns with a wrong command (see `run_scripted_episode`).

        Raises:
            ValueError: the environment has no expert, or `workers.max_restarts` is exceeded.
        """
        return self._play(scripted_jobs(tasks, player, noise=noise, seed=seed), on_episode)

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        import ray
        from ray.exceptions import RayError

        if self._policy is not None:
            try:
                # A killed engine leaves its own processes behind, so it is asked to stop first.
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
        self, groups: Sequence[Sequence[EpisodeJob]], on_episode: OnEpisode | None
    ) -> list[Trajectory]:
        """Play all jobs with every worker busy; return the trajectories by the jobs' numbers."""
        import ray

        schedule = Schedule(groups, workers=len(self._workers), places=self._plan.envs)
        jobs = Round(schedule, on_episode)
        try:
            self._send(jobs)
            while jobs.in_flight:
                # The timeout matters when every worker hangs: then no answer ever comes.
                done, _ = ray.wait(list(jobs.in_flight), num_returns=1, timeout=_LOOK_SECONDS)
                self._end_hung_workers()
                for request in done:
                    self._receive(request, jobs)
                self._send(jobs)
        finally:
            # Empty unless an error ends the round: then the rest of the episodes is not wanted.
            for request in jobs.in_flight:
                ray.cancel(request)
        return jobs.episodes()

    def _send(self, jobs: Round) -> None:
        """Send jobs to all free places."""
        for worker, job in jobs.schedule.deal():
            play = getattr(self._workers[worker], job.method)
            request = play.remote(job.task, **job.arguments, number=job.number)
            jobs.in_flight[request] = (worker, job)

    def _receive(self, request: Any, jobs: Round) -> None:
        """Take an answer, which may be the news that its worker died."""
        if request not in jobs.in_flight:
            return  # its worker died, as another answer told
        worker, job = jobs.take(request)
        try:
            episode = get(request)
        except Exception as error:
            if (death := death_of(error)) is None:
                raise
            # One answer tells of the death; the worker's other jobs died with it.
            failed, repeated = self._settle(worker, [job, *jobs.take_all(worker)], death)
            for failed_job, failure in failed:
                jobs.end(failed_job, failure)
            jobs.schedule.put_back(worker, repeated)
            self._replace_worker(worker, failed[0][1].error if failed else death)
        else:
            self._restarts = 0
            jobs.end(job, episode)

    def _end_hung_workers(self) -> None:
        """Kill each worker that is in a call for longer than the limit.

        A hung call blocks its whole process, which therefore cannot end itself. The death then
        reaches `_receive` like any other.
        """
        import ray

        for actor, page in zip(self._workers, self._pages, strict=True):
            call = page.read()
            if call is not None and call.seconds > self._plan.episode.env_timeout_seconds:
                ray.kill(actor)

    def _settle(
        self, worker: int, unfinished: Sequence[EpisodeJob], death: str
    ) -> tuple[list[tuple[EpisodeJob, Trajectory]], list[EpisodeJob]]:
        """Settle the jobs of a worker that died (see `settle_jobs`)."""
        import ray

        # It may live, if the answer alone was lost. Two writers must not share a page.
        ray.kill(self._workers[worker])
        page = self._pages[worker]
        limit = self._plan.episode.env_timeout_seconds
        settled = settle_jobs(unfinished, page.read(), limit_seconds=limit, death=death)
        # The dead writer cannot end its call, and the new one would be blamed for it.
        page.end()
        return settled

    def _replace_worker(self, worker: int, cause: str) -> None:
        """Start a new process for a worker that died of `cause`.

        Raises:
            ValueError: too many were replaced in a row, or the constructor does not return.
        """
        while True:
            self._restarts += 1
            if self._restarts > self._most_restarts:
                raise ValueError(
                    f"env.id {self._plan.env_id}: its worker processes hung or died "
                    f"{self._restarts} times in a row without an episode that ended in between "
                    f"(workers.max_restarts: {self._most_restarts}); the last time: {cause}"
                )
            self._workers[worker] = self._new_worker(Path(self._folder.name, str(worker)))
            try:
                self._wait_for_start([self._workers[worker].start.remote()])
            except _DiedAtStart as error:
                cause = str(error)
                self._pages[worker].end()
                continue
            if self._policy is not None:
                self._connect([self._workers[worker]])
            return

    def _wait_for_start(self, starting: Sequence[Any]) -> None:
        """Wait until workers have started.

        Raises:
            ValueError: what they are to load is not usable; or the environment's constructor does
                not return in time, or its process died.
        """
        import ray

        limit = self._plan.episode.env_timeout_seconds
        env, pending = f"env.id {self._plan.env_id}", list(starting)
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=_LOOK_SECONDS)
            calls = [page.read() for page in self._pages]
            if any(call and call.making and call.seconds > limit for call in calls):
                raise ValueError(
                    f"{env}: its constructor did not return within {limit:g} s in a worker process "
                    "(episode.env_timeout_seconds); raise the limit if it is only slow, and see "
                    "that every wait in it has an end"
                )
            try:
                get(done)
            except Exception as error:
                if (death := death_of(error)) is None:
                    raise
                at = "in its constructor" if any(calls) else "at its start"
                raise _DiedAtStart(f"{env}: a worker process died {at}: {death}") from error

    def _new_worker(self, calls: Path) -> Any:
        # Two more than its episodes, so that `start` and `connect` never wait behind them.
        concurrency = self._plan.envs + 2
        # Ray's processes do not inherit the driver's module path, on which a user's own
        # environment is found.
        path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        return process_of(RolloutWorker, max_concurrency=concurrency, environment=environment)(
            self._plan, calls=calls
        )

    def _new_policy(self, model_folder: Path, version: int) -> Any:
        environment = {"OMP_NUM_THREADS": str(self._serving.threads)}
        gpus = gpu_share()
        # Calls of `exchange` wait in the actor for answers; a low limit would hold up later calls.
        new = process_of(PolicyActor, max_concurrency=4096, gpus=gpus, environment=environment)
        return new(model_folder, self._serving, version=version)

    def _connect(self, workers: Sequence[Any]) -> None:
        """Wait for the engine, and give each worker a client under a new name.

        The name is new because a replaced worker must not receive the answers of its predecessor.
        """
        get(self._policy.check_health.remote())
        get([worker.connect.remote(RemotePolicy(self._policy, uuid4().hex)) for worker in workers])

    def _check_policy(self, played: Sequence[Trajectory]) -> None:
        """Raise the error of a dead engine; a request that failed alone is only its episode's."""
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


def _require_kv_cache(folder: Path, settings: ServingSettings) -> None:
    """Refuse a cache that is too small before anything starts; a GPU has no `kv_cache_gib`."""
    import torch

    if not torch.cuda.is_available():
        require_kv_cache(folder, settings, chosen_dtype(settings.dtype, gpu=False))
