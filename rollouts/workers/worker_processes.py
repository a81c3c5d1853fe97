"""The processes of the workers: started, watched, and replaced when they die or hang."""

import math
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rollouts.processes.ray_processes import death_of, end_processes, process_of, when_answered
from rollouts.workers.calls import Call, CallPage
from rollouts.workers.events import Event
from rollouts.workers.worker import RolloutWorker, WorkerPlan

_LEAST_SILENCE_SECONDS = 20.0
"""The time in which a free worker answers even on a machine with far too much to do."""

Connect = Callable[[int, Any], Any]
"""Given a worker's number and actor, makes it ready to play after its start; returns Ray's
reference to the answer, or None if nothing is to be done."""


class WorkerProcesses:
    """A process per worker. All methods but the constructor are called in the pool's thread."""

    def __init__(
        self,
        plan: WorkerPlan,
        count: int,
        *,
        most_restarts: int,
        post: Callable[[Event], None],
        on_ready: Callable[[int], None],
    ) -> None:
        """Start the processes, without waiting for them.

        Args:
            most_restarts: `workers.max_restarts`.
            post: lets the pool's thread call a function.
            on_ready: is called with a worker's number when it can play, at first and again after
                each replacement.
        """
        self._plan, self._most_restarts = plan, most_restarts
        self._post, self._on_ready = post, on_ready
        self._restarts = 0
        """Workers replaced since an episode ended."""
        self.connect: Connect = lambda worker, actor: None
        """Is called for a worker that has loaded what it needs."""
        self._pages = [CallPage() for _ in range(count)]
        self._starting = set(range(count))
        """The workers whose processes cannot play yet."""
        self._began_at = [math.inf] * count
        """When each worker's process was started (monotonic), or infinity if it is given up."""
        self._heard_at = [time.monotonic()] * count
        """When each worker last answered, or was in a call or at its start (monotonic)."""
        self._asked: set[int] = set()
        """The workers that owe an answer to `look`."""
        self.started = False
        """Whether all have been ready once. Before, a death ends the run: it would come again."""
        self.actors: list[Any] = [self._new(worker) for worker in range(count)]
        for worker in range(count):
            self._begin(worker)

    def use_folder(self, folder: Path) -> None:
        """Let later processes load the tokenizer from `folder`, as the old one may be gone."""
        self._plan = replace(self._plan, model_folder=folder)

    def close(self) -> None:
        """End all processes."""
        end_processes(self.actors)
        self.actors = []
        for page in self._pages:
            page.close()
        self._pages = []

    def episode_ended(self) -> None:
        """Note that the workers get on: the count of restarts in a row begins again."""
        self._restarts = 0

    def look(self) -> None:
        """Kill each worker that is in a call, or answers nothing, for longer than the limit.

        A hung call blocks its whole process, which therefore cannot end itself. The death is then
        told by the answers that the process owes, or by the next one that it is asked for.

        Raises:
            ValueError: at the first start, a worker or its environment's constructor takes too
                long.
        """
        limit = self._plan.episode.env_timeout_seconds
        for worker, (actor, page) in enumerate(zip(self.actors, self._pages, strict=True)):
            call = page.read()
            if call is None and worker not in self._starting:
                self._ask_for_life(worker, actor, limit)
                continue
            # In a call it cannot answer. A start may take longer, as it imports libraries.
            self._heard_at[worker] = time.monotonic()
            if call is None:
                self._look_at_start(worker)
                continue
            if call.seconds <= limit:
                continue
            if call.making and worker in self._starting:
                raise ValueError(
                    f"env.id {self._plan.env_id}: its constructor did not return within "
                    f"{limit:g} s in a worker process (episode.env_timeout_seconds); raise the "
                    "limit if it is only slow, and see that every wait in it has an end"
                )
            end_processes([actor])

    def _look_at_start(self, worker: int) -> None:
        """End a process that takes too long to start, or the run at its beginning."""
        limit = self._plan.episode.start_timeout_seconds
        if time.monotonic() - self._began_at[worker] <= limit:
            return
        self._began_at[worker] = math.inf  # once is enough
        if not self.started:
            raise ValueError(
                f"env.id {self._plan.env_id}: a worker process did not start within {limit:g} s; "
                "if its imports only take long, raise episode.env_timeout_seconds, as a start may "
                "take ten times as long"
            )
        end_processes([self.actors[worker]])

    def _ask_for_life(self, worker: int, actor: Any, limit: float) -> None:
        """Ask a worker that should be free to answer, and end one that has not for too long."""
        if time.monotonic() - self._heard_at[worker] > max(limit, _LEAST_SILENCE_SECONDS):
            self._heard_at[worker] = math.inf  # once is enough
            end_processes([actor])
        elif worker not in self._asked:
            self._asked.add(worker)
            self._then(actor.process_id.remote(), worker, self._heard)

    def _heard(self, worker: int, answer: Callable[[], Any]) -> None:
        self._asked.discard(worker)
        with suppress(Exception):  # of a death, the episodes tell
            answer()
            self._heard_at[worker] = time.monotonic()

    def bury(self, worker: int) -> Call | None:
        """End what is left of a dead worker; return the call that it died in, if any."""
        # It may live, if the answer alone was lost. Two writers must not share a page.
        end_processes([self.actors[worker]])
        page = self._pages[worker]
        call = page.read()
        # The dead writer cannot end its call, and the new one would be blamed for it.
        page.end()
        return call

    def replace(self, worker: int, cause: str) -> None:
        """Start a new process for a worker that died of `cause`.

        Raises:
            ValueError: too many were replaced in a row.
        """
        self._restarts += 1
        if self._restarts > self._most_restarts:
            raise ValueError(
                f"env.id {self._plan.env_id}: its worker processes hung or died {self._restarts} "
                "times in a row without an episode that ended in between "
                f"(workers.max_restarts: {self._most_restarts}); the last time: {cause}"
            )
        self._starting.add(worker)
        self.actors[worker] = self._new(worker)
        self._begin(worker)

    def _begin(self, worker: int) -> None:
        """Let a new process load what it needs."""
        self._began_at[worker] = time.monotonic()
        self._then(self.actors[worker].start.remote(), worker, self._loaded)

    def _then(
        self, reference: Any, worker: int, do: Callable[[int, Callable[[], Any]], None]
    ) -> None:
        """Call `do` in the pool's thread when a worker has answered."""
        when_answered(reference, lambda answer: self._post(partial(do, worker, answer)))

    def _loaded(self, worker: int, answer: Callable[[], Any]) -> None:
        if self._is_alive(worker, answer):
            connecting = self.connect(worker, self.actors[worker])
            if connecting is None:
                self._ready(worker, lambda: None)
            else:
                self._then(connecting, worker, self._ready)

    def _ready(self, worker: int, answer: Callable[[], Any]) -> None:
        if self._is_alive(worker, answer):
            self._starting.discard(worker)
            self._heard_at[worker] = time.monotonic()
            self._asked.discard(worker)
            self._on_ready(worker)

    def _is_alive(self, worker: int, answer: Callable[[], Any]) -> bool:
        """Whether a starting worker has answered; one that died is replaced.

        Raises:
            ValueError: what it is to load is not usable, or it is the first start and it died.
        """
        try:
            answer()
        except Exception as error:
            if (death := death_of(error)) is None:
                raise
            call = self.bury(worker)
            at = "at its start" if call is None else "in its constructor"
            cause = f"env.id {self._plan.env_id}: a worker process died {at}: {death}"
            if not self.started:
                raise ValueError(cause) from error
            self.replace(worker, cause)
            return False
        return True

    def _new(self, worker: int) -> Any:
        # More than its episodes, so that no other call waits behind them: `start`, `connect` or
        # `move`, and the question whether it lives.
        concurrency = self._plan.envs + 3
        # Ray's processes do not inherit the driver's module path, on which a user's own
        # environment is found.
        path = os.pathsep.join([*filter(None, sys.path), os.getcwd()])
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
        new = process_of(RolloutWorker, max_concurrency=concurrency, environment=environment)
        return new(self._plan, calls=self._pages[worker].address)
