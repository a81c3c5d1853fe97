"""A worker: several environments in one process, whose episodes run concurrently."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs import Task, TextEnv, make_env
from rollouts.episode import FULL, EnvFailure, describe, run_episode
from rollouts.mistakes import Mistakes
from rollouts.players import PlayerName, make_player
from rollouts.processes.loops import no_loop
from rollouts.renderer import Renderer, byte_renderer, load_renderer
from rollouts.rendering.histories import History, make_history
from rollouts.scripted_episode import run_scripted_episode
from rollouts.serving.messages import Address
from rollouts.serving.remote_policy import RemotePolicy
from rollouts.settings import EpisodeSettings, PromptSettings
from rollouts.types import Policy, Trajectory
from rollouts.workers.calls import CallPage, WatchedEnv
from rollouts.workers.corrected_env import CorrectedEnv
from rollouts.workers.jobs import failed_episode

_AT_START = -1
"""In the record of calls, the number of the episode for which the first environment is made."""


class _NotMade(Exception):
    """An environment could not be made."""


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """Everything a worker is built from; it is sent to the worker's process."""

    env_id: str
    """The environment, as in `env.id`."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """The keyword arguments of the environment, as in `env.options`."""
    envs: int = 1
    """Environments in the process, and so episodes at once."""
    prompt: PromptSettings
    """The format of the prompt."""
    episode: EpisodeSettings
    """The limits and rewards of an episode."""
    context_length: int | None
    """The context in tokens that the engine serves; None without a model."""


@dataclass(frozen=True, kw_only=True)
class _FreeEnv:
    """An environment that plays no episode now."""

    env: TextEnv
    expert: bool
    """Whether it was made with its expert."""
    last_task: Task | None
    """The task that it played last; it may still have that game loaded."""


class RolloutWorker:
    """Plays up to `plan.envs` episodes at once in one thread; further ones wait.

    While one episode waits for the policy, another one uses the thread. Environments are made when
    they are first needed. An episode prefers a free environment that last played its task, because
    that one may still have the game loaded.
    """

    def __init__(self, plan: WorkerPlan, policies: Sequence[Policy] = ()) -> None:
        """Keep the plan; `start` loads what it names.

        Args:
            policies: an engine's or several engines'; they may come later, with `connect`.
        """
        self._plan = plan
        self._calls: CallPage | None = None
        self._policies = policies
        self._renderer: Renderer | None = None
        self._history: History = FULL
        self._slots = asyncio.Semaphore(plan.envs)
        self._free: list[_FreeEnv] = []

    async def start(self, model_folder: Path | None = None, calls: Path | None = None) -> None:
        """Load the tokenizer and the first environment. A second call does nothing.

        Args:
            model_folder: where this node has the tokenizer; None allows only players that need no
                model, and their tokens are bytes.
            calls: the file that records the current environment call, for the pool to read.

        Raises:
            ValueError: the tokenizer or the environment is not usable; the message says what to
                change.
        """
        if self._renderer is not None:
            return
        self._calls = None if calls is None else CallPage(calls)
        if model_folder is None:
            self._renderer = byte_renderer()
        else:
            self._history = make_history(self._plan.prompt)
            self._renderer = load_renderer(model_folder, self._plan.prompt)
        # Made now, so that wrong options fail before any episode.
        try:
            env = self._make_env(_AT_START, expert=False)
        except _NotMade as error:
            raise ValueError(f"env.id {self._plan.env_id}: {error}") from error
        self._free.append(_FreeEnv(env=env, expert=False, last_task=None))

    async def connect(self, policies: Sequence[Policy]) -> None:
        """Let `policies` play from now on; each is the client of an engine, in their order."""
        self._policies = policies

    async def move(self, engine: int, address: Address, name: str) -> None:
        """Let the client of an engine go on where that engine is now.

        Args:
            engine: the number of the engine.
            address: where it has started, or where another one has replaced it.
            name: the client's name there.
        """
        # A worker that is not connected yet gets clients of the present engines.
        if self._policies:
            client = self._policies[engine]
            assert isinstance(client, RemotePolicy), client
            client.move(address, name)

    async def run(
        self,
        task: Task,
        *,
        temperature: float,
        seed: int | None,
        advised: bool = False,
        corrections: int | None = None,
        number: int = 0,
        engine: int = 0,
    ) -> Trajectory:
        """Play one episode of the policy (see `run_episode`).

        Args:
            advised: whether the environment's expert says in each turn what it would do.
            corrections: the turns that differ from its advice at which the episode ends; None plays
                on.
            number: the episode's number in the record of environment calls.
            engine: the number of the engine that plays.
        """
        assert self._policies, "no engine has been connected"
        assert self._plan.context_length is not None, "no model was named"
        try:
            async with self._environment(task, number, expert=advised) as env:
                return await run_episode(
                    env if corrections is None else CorrectedEnv(env, corrections),
                    task,
                    self._policies[engine],
                    self._started_renderer,
                    self._plan.episode,
                    context_length=self._plan.context_length,
                    temperature=temperature,
                    seed=seed,
                    history=self._history,
                )
        except _NotMade as error:
            return failed_episode(task, str(error))

    async def run_scripted(
        self, task: Task, *, player: PlayerName, noise: float, seed: int, number: int = 0
    ) -> Trajectory:
        """Play one episode of a player that needs no model (see `run_scripted_episode`).

        Args:
            number: the episode's number in the record of environment calls.

        Raises:
            ValueError: the expert is to play, and the environment has none.
        """
        try:
            async with self._environment(task, number, expert=player == "expert") as env:
                return await run_scripted_episode(
                    env,
                    task,
                    make_player(player, env, task, seed),
                    self._started_renderer,
                    self._plan.episode,
                    mistakes=Mistakes(noise, seed=seed),
                    context_length=self._plan.context_length,
                    history=self._history,
                )
        except _NotMade as error:
            return failed_episode(task, str(error))

    @property
    def _started_renderer(self) -> Renderer:
        assert self._renderer is not None, "start() comes first"
        return self._renderer

    def _make_env(self, number: int, *, expert: bool) -> TextEnv:
        """Make an environment for the episode `number`.

        Raises:
            ValueError: the options are wrong.
            _NotMade: the constructor raised anything else.
        """
        options = {**self._plan.env_options, "expert": True} if expert else self._plan.env_options
        if self._calls is not None:
            self._calls.begin_making(number)
        try:
            with no_loop():
                return make_env(self._plan.env_id, **options)
        except ValueError:
            raise
        except EnvFailure as error:
            raise _NotMade(f"its constructor raised {describe(error)}") from error
        finally:
            if self._calls is not None:
                self._calls.end()

    @asynccontextmanager
    async def _environment(
        self, task: Task, number: int, *, expert: bool = False
    ) -> AsyncIterator[TextEnv]:
        """Lend an environment for one episode, waiting until one is free."""
        async with self._slots:
            env = self._take_env(task, number, expert=expert)
            try:
                yield env if self._calls is None else WatchedEnv(env, self._calls, number)
            finally:
                # Also after an error, because the next reset puts the environment right again.
                self._free.append(_FreeEnv(env=env, expert=expert, last_task=task))

    def _take_env(self, task: Task, number: int, *, expert: bool) -> TextEnv:
        usable = [free for free in self._free if free.expert == expert]
        if not usable:
            return self._make_env(number, expert=expert)
        same_task = [free for free in usable if free.last_task == task]
        best = (same_task or usable)[0]
        self._free.remove(best)
        return best.env
