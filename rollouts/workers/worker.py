"""Several environments in one process, and the episodes that run in them side by side."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs import Task, TextEnv, make_env
from rollouts.episode import Policy, run_episode
from rollouts.players import PlayerName, make_player
from rollouts.renderer import Renderer, byte_renderer, load_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.settings import EpisodeSettings, PromptSettings
from rollouts.types import Trajectory
from rollouts.workers.calls import CallPage, WatchedEnv


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """All that a worker is built from; travels to its process."""

    env_id: str
    env_options: dict[str, Any] = field(default_factory=dict)
    envs: int = 1
    model_folder: Path | None
    """Holds the tokenizer. With None only players that need no model play, and their tokens are
    bytes.
    """
    prompt: PromptSettings
    episode: EpisodeSettings
    context_length: int | None
    """In tokens; None where there is no model."""


class RolloutWorker:
    """Runs up to `plan.envs` episodes at once in one thread; further ones wait for a free
    environment.

    Environments are made when they are first needed. An episode prefers the free environment that
    last played its task, which may still have the game loaded.
    """

    def __init__(
        self, plan: WorkerPlan, policy: Policy | None = None, *, calls: Path | None = None
    ) -> None:
        """Start with nothing loaded. In the file `calls` stands which call of an environment is
        under way.
        """
        self._plan = plan
        # In another machine of a cluster the file's folder is not there, and nobody reads it.
        self._calls = CallPage(calls) if calls is not None and calls.parent.is_dir() else None
        self._policy = policy
        self._renderer: Renderer | None = None
        self._slots = asyncio.Semaphore(plan.envs)
        self._free: list[tuple[TextEnv, bool, Task | None]] = []
        """Each with whether it has its expert with it, and the task that it played last."""

    async def start(self) -> None:
        """Load the tokenizer and the first environment.

        Raises:
            ValueError: the tokenizer or the environment cannot be had so; the message says what to
            change.
        """
        if self._renderer is None:
            folder = self._plan.model_folder
            self._renderer = (
                byte_renderer() if folder is None else load_renderer(folder, self._plan.prompt)
            )
            self._free.append((self._make_env(expert=False), False, None))

    async def connect(self, policy: Policy) -> None:
        """Let `policy` play from now on."""
        self._policy = policy

    async def run(
        self, task: Task, *, temperature: float, seed: int | None, number: int = 0
    ) -> Trajectory:
        """One episode of the policy (see `run_episode`); `number` is what its calls are noted
        under.
        """
        assert self._policy is not None, "the policy has not been started"
        assert self._plan.context_length is not None, "no model was named"
        async with self._environment(task, number) as env:
            return await run_episode(
                env,
                task,
                self._policy,
                self._started_renderer,
                self._plan.episode,
                context_length=self._plan.context_length,
                temperature=temperature,
                seed=seed,
            )

    async def run_scripted(
        self, task: Task, *, player: PlayerName, noise: float, seed: int, number: int = 0
    ) -> Trajectory:
        """One episode of a player that needs no model (see `run_scripted_episode`).

        Raises:
            ValueError: the expert is to play, and the environment has none.
        """
        async with self._environment(task, number, expert=player == "expert") as env:
            return await run_scripted_episode(
                env,
                task,
                make_player(player, env, task, seed),
                self._started_renderer,
                self._plan.episode,
                noise=noise,
                seed=seed,
                context_length=self._plan.context_length,
            )

    @property
    def _started_renderer(self) -> Renderer:
        assert self._renderer is not None, "start() comes first"
        return self._renderer

    def _make_env(self, *, expert: bool) -> TextEnv:
        options = {**self._plan.env_options, "expert": True} if expert else self._plan.env_options
        return make_env(self._plan.env_id, **options)

    @asynccontextmanager
    async def _environment(
        self, task: Task, number: int, *, expert: bool = False
    ) -> AsyncIterator[TextEnv]:
        async with self._slots:
            usable = [slot for slot in self._free if slot[1] == expert]
            slot = next((slot for slot in usable if slot[2] == task), usable[0] if usable else None)
            if slot is not None:
                self._free.remove(slot)
            env = slot[0] if slot is not None else self._make_env(expert=expert)
            try:
                yield env if self._calls is None else WatchedEnv(env, self._calls, number)
            finally:
                self._free.append((env, expert, task))
