"""Plays many episodes at once, in worker processes over Ray, without a pause.

`RolloutWorker` and `PolicyActor` are ordinary classes, which Ray puts into processes. One thread of
the pool talks with all of them: it deals episodes, takes trajectories, and replaces what dies. So
episodes go on while the caller does something else.
"""

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from envs import Task
from rollouts.players import PlayerName
from rollouts.processes.gpus import engine_share, require_gpus
from rollouts.processes.ray_cluster import Need, Places, reserve, this_node
from rollouts.processes.ray_processes import check_ray, gpu_count, start_ray, stop_ray
from rollouts.serving.model_config import model_context_length, require_servable
from rollouts.serving.statistics import EngineStatistics
from rollouts.settings import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.types import Trajectory, TrajectoryGroup
from rollouts.workers.engines import Engines
from rollouts.workers.events import EventThread
from rollouts.workers.jobs import EpisodeJob, group_jobs, scripted_jobs
from rollouts.workers.nodes import Nodes
from rollouts.workers.stream import EpisodeStream, OnEpisode
from rollouts.workers.usage import PlaceSeconds, Usage
from rollouts.workers.worker import WorkerPlan
from rollouts.workers.worker_processes import WorkerProcesses

_LOOK_SECONDS = 1.0
"""The time between two looks for a call that does not return."""


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
            prompt=self.prompt,
            episode=self.episode,
            context_length=context,
        )


class RolloutPool:
    """Worker processes with environments, and the served policy. Use it as a context manager.

    A worker that dies, or hangs in an environment's call, is replaced, and its other episodes are
    played again. An engine that dies or hangs is replaced, and its requests are sent again.

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
        """Start Ray (see `start_ray`), the workers and the engines, all at the same time.

        Args:
            model_folder: holds the policy and its tokenizer. Without it nothing is served, and the
                tokens of the players' episodes are bytes.
            serve: whether to start the engines; expert episodes need none.
            version: the version of the weights in `model_folder`.

        Raises:
            ValueError: the model folder, the context length, the tokenizer or the environment is
                not usable; there are too few GPUs; the environment's constructor does not return,
                or ends its process; the cluster has no room.
        """
        folder = None if model_folder is None else Path(model_folder).absolute()
        plan = settings.worker_plan(folder)
        served = folder if serve else None
        self._places = _start_ray(settings, served)
        self._open = True
        self._numbers = itertools.count()
        self._started: Future[None] = Future()
        self._promises: list[Future[Any]] = [self._started]
        """What other threads wait for."""
        self._failure: BaseException | None = None
        """What ended the pool's work."""
        self._ready: set[int] = set()
        """The workers that have been ready."""
        self._engines: Engines | None = None
        self._thread = EventThread(self._look, self._fail, seconds=_LOOK_SECONDS)
        self._nodes = Nodes(folder, post=self._thread.post)
        # Nothing waits in these lines: the workers import and load while the engines start.
        self._workers = self._start_workers(plan, settings.workers)
        if served is not None:
            self._start_engines(version, settings)
        self._places.hand_over()
        self._stream = EpisodeStream(
            self._workers,
            self._engines,
            places=plan.envs,
            limit_seconds=plan.episode.env_timeout_seconds,
            post=self._thread.post,
        )
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.close()
            raise

    def _start_workers(self, plan: WorkerPlan, settings: WorkerSettings) -> WorkerProcesses:
        return WorkerProcesses(
            plan,
            settings.count,
            nodes=self._nodes,
            most_restarts=settings.max_restarts,
            places=self._places,
            post=self._thread.post,
            on_ready=self._worker_ready,
        )

    def _start_engines(self, version: int, settings: PoolSettings) -> None:
        self._engines = Engines(
            self._nodes,
            version,
            settings.serving,
            places=self._places,
            post=self._thread.post,
            on_ready=self._check_start,
            workers=lambda: self._workers.actors,
            stops=bool(settings.prompt.stop),
        )
        self._workers.connect = self._connect

    def __enter__(self) -> "RolloutPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync_weights(self, folder: str | Path, version: int) -> None:
        """Serve the weights in `folder` as `version` from now on (see `ServedPolicy`).

        Episodes go on meanwhile.
        """
        assert self._engines is not None, "the pool was made without engines"
        self._thread.post(partial(self._nodes.use_folder, Path(folder)))
        self._ask(partial(self._engines.sync, version))

    @property
    def engines_elsewhere(self) -> int:
        """How many engines run on other nodes of a cluster."""
        nodes = [] if self._engines is None else self._engines.nodes
        return sum(node not in (None, this_node()) for node in nodes)

    def sleep(self) -> None:
        """Let the engines give their memory back until `sync_weights` (see `serving.sleep`).

        Episodes that ask for actions meanwhile wait.
        """
        assert self._engines is not None, "the pool was made without engines"
        self._ask(self._engines.sleep)

    def begin(
        self,
        task: Task,
        *,
        group_size: int,
        temperature: float,
        seed: int,
        on_episode: OnEpisode | None = None,
    ) -> Future[list[Trajectory]]:
        """Let a group of episodes be played after those that were begun before; does not wait.

        Args:
            seed: an episode's seed depends on it, on the task and on its index in the group.
            on_episode: is called with each episode as it ends, in the pool's thread.

        Returns:
            What will hold the group's episodes. It raises as `collect` does; whoever does not want
            them any more cancels it.
        """
        (jobs,) = group_jobs(
            [task], group_size, temperature=temperature, seed=seed, numbers=self._numbers
        )
        return self._stream.begin(jobs, on_episode, urgent=False)

    def collect(
        self,
        tasks: Sequence[Task],
        *,
        group_size: int,
        temperature: float,
        seed: int,
        advised: bool = False,
        corrections: int | None = None,
        on_episode: OnEpisode | None = None,
    ) -> list[TrajectoryGroup]:
        """Play every task `group_size` times; return one group per task, in the order of `tasks`.

        An episode's seed depends on `seed`, its task and its index among the task's episodes, and
        not on the worker. If a task comes twice, its two groups have different seeds. Groups that
        were begun before, and of which no episode plays yet, are played later.

        Args:
            advised: whether the environment's expert says in each turn what it would do
                (`Turn.advice`).
            corrections: the turns that differ from its advice at which an episode ends; None plays
                on.

        Raises:
            ValueError: `workers.max_restarts` is exceeded, or there is no expert to advise.
            ProcessesGone: `serving.max_restarts` is exceeded, or Ray has ended.
        """
        jobs = group_jobs(
            tasks,
            group_size,
            temperature=temperature,
            seed=seed,
            numbers=self._numbers,
            advised=advised,
            corrections=corrections,
        )
        played = self._play(jobs, on_episode)
        return [
            TrajectoryGroup(task=task, trajectories=tuple(episodes))
            for task, episodes in zip(tasks, played, strict=True)
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
        """Let the expert or the random player play every task once; this needs no engine.

        Args:
            noise: the share of turns with a wrong command (see `run_scripted_episode`).

        Raises:
            ValueError: the environment has no expert, or `workers.max_restarts` is exceeded.
        """
        jobs = scripted_jobs(tasks, player, noise=noise, seed=seed, numbers=self._numbers)
        return [episode for (episode,) in self._play(jobs, on_episode)]

    def usage(self) -> Usage:
        """What the engines have done, and how the places were used, since the start."""
        engines = EngineStatistics()
        if self._engines is not None:
            engines = self._ask(self._engines.add_up)
        places: PlaceSeconds = self._ask(
            lambda promise: promise.set_result(self._stream.place_seconds())
        )
        return Usage(engines=engines, places=places)

    def close(self) -> None:
        """End all processes. A second call does nothing."""
        if not self._open:
            return
        self._open = False
        self._thread.stop()
        self._stream.fail(RuntimeError("the pool was closed"))
        if self._engines is not None:
            self._engines.close()
        self._workers.close()
        self._nodes.close()
        stop_ray()

    def _play(
        self, groups: Sequence[Sequence[EpisodeJob]], on_episode: OnEpisode | None
    ) -> list[list[Trajectory]]:
        """Play groups and wait for them; the trajectories by group, in the order of the jobs."""
        results = [self._stream.begin(jobs, on_episode, urgent=True) for jobs in groups]
        try:
            return [result.result() for result in results]
        finally:
            # They are done, unless an error or a signal ends the wait: then nobody wants the rest.
            for result in results:
                result.cancel()

    def _ask(self, request: Callable[[Future[Any]], None]) -> Any:
        """Call `request` with a promise in the pool's thread; return what the promise gets."""
        promise: Future[Any] = Future()

        def ask() -> None:
            if self._failure is not None:
                promise.set_exception(self._failure)
                return
            self._promises = [other for other in self._promises if not other.done()]
            self._promises.append(promise)
            request(promise)

        self._thread.post(ask)
        return promise.result()

    def _connect(self, worker: int, actor: Any) -> Any:
        """Give a worker a client of each engine."""
        assert self._engines is not None
        return actor.connect.remote(self._engines.clients(worker))

    def _worker_ready(self, worker: int) -> None:
        self._ready.add(worker)
        self._stream.open(worker)
        self._check_start()

    def _check_start(self) -> None:
        """Note that the pool has started, if nothing is missing any more."""
        engines_ready = self._engines is None or self._engines.ready
        if len(self._ready) == len(self._workers.actors) and engines_ready:
            self._workers.started = True
            if not self._started.done():
                self._started.set_result(None)

    def _look(self) -> None:
        check_ray()
        self._nodes.look()
        self._workers.look()
        if self._engines is not None:
            self._engines.look()

    def _fail(self, error: BaseException) -> None:
        """End all waiting with an error."""
        self._failure = self._failure or error
        for promise in self._promises:
            if not promise.done():
                promise.set_exception(error)
        self._stream.fail(error)


def _start_ray(settings: PoolSettings, folder: Path | None) -> Places:
    """Start Ray; return places for the workers, and after them for the engines.

    Args:
        folder: holds the model that the engines serve; None if there are no engines.

    Raises:
        ValueError: engines cannot serve it here, as far as is known before they start; or the
            cluster has no room.
    """
    workers, serving = settings.workers.count, settings.serving
    if folder is not None:
        import torch

        require_servable(folder, serving, gpu=torch.cuda.is_available())
    start_ray()
    try:
        needs, what = [Need()] * workers, f"workers.count: {workers}"
        if folder is not None:
            there = gpu_count()
            require_gpus(serving, there)
            cores = serving.threads * serving.tensor_parallel
            needs += [Need(cpus=cores, gpus=engine_share(serving, there))] * serving.replicas
            what += f" and serving.replicas: {serving.replicas} (serving.tensor_parallel: "
            what += f"{serving.tensor_parallel}, serving.threads: {serving.threads})"
        return reserve(needs, what)
    except BaseException:
        stop_ray()
        raise
