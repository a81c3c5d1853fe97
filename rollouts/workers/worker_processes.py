"""The processes of the workers: started, watched, and replaced when they die or hang."""

import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from rollouts.processes.ray_cluster import WAIT_SECONDS, Places
from rollouts.processes.ray_failures import NODE_GONE, death_of
from rollouts.processes.ray_processes import (
    end_processes,
    process_of,
    when_answered,
)
from rollouts.workers.calls import Call
from rollouts.workers.events import Event
from rollouts.workers.nodes import Nodes
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
        nodes: Nodes,
        places: Places,
        post: Callable[[Event], None],
        on_ready: Callable[[int], None],
    ) -> None:
        """Start the processes, without waiting for them.

        Args:
            most_restarts: `workers.max_restarts`.
            nodes: have what the workers read and write.
            places: the first ones are those of the workers.
            post: lets the pool's thread call a function.
            on_ready: is called with a worker's number when it can play, at first and again after
                each replacement.
        """
        self._plan, self._most_restarts, self._places = plan, most_restarts, places
        self._nodes, self._post, self._on_ready = nodes, post, on_ready
        self._restarts = 0
        """Workers replaced since an episode ended."""
        self.connect: Connect = lambda worker, actor: None
        """Is called for a worker that has loaded what it needs."""
        self._placed_by: dict[int, float] = {}
        """By when the workers that are not on a node yet have to be (monotonic)."""
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

    def close(self) -> None:
        """End all processes."""
        end_processes(self.actors)
        self.actors = []

    def episode_ended(self) -> None:
        """Note that the workers get on: the count of restarts in a row begins again."""
        self._restarts = 0

    def look(self) -> None:
        """Kill each worker that is in a call, or answers nothing, for longer than the limit.

        A hung call blocks its whole process, which therefore cannot end itself. The death is then
        told by the answers that the process owes, or by the next one that it is asked for.

        Raises:
            ValueError: at the first start, a worker or its environment's constructor takes too
                long; or no worker is left, and no node has room for one.
        """
        overdue = [time.monotonic() > limit for limit in self._placed_by.values()]
        # As long as there are others, they play.
        if sum(overdue) == len(self.actors) or (any(overdue) and not self.started):
            raise ValueError(
                f"no node has had room for a worker for {WAIT_SECONDS:g} s: "
                f"{self._places.missing()}"
            )
        limit = self._plan.episode.env_timeout_seconds
        calls = self._nodes.calls()
        for worker, actor in enumerate(self.actors):
            call = calls.get(worker)
            if call is None and worker not in self._starting:
                self._ask_for_life(worker, actor, limit)
                continue
            # In a call it cannot answer. A start may take longer, as it imports libraries.
            self._heard_at[worker] = time.monotonic()
            if call is None:
                # One that waits for a place is another matter.
                if worker not in self._placed_by:
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
        return self._nodes.take_call(worker)

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
        """Let a new process load what it needs, once it is on a node."""
        self._began_at[worker] = time.monotonic()
        if self._places.may_wait:
            self._placed_by[worker] = time.monotonic() + WAIT_SECONDS
        self._then(self.actors[worker].process_id.remote(), worker, self._placed)

    def _then(
        self, reference: Any, worker: int, do: Callable[[int, Callable[[], Any]], None]
    ) -> None:
        """Call `do` in the pool's thread when a worker has answered."""
        when_answered(reference, lambda answer: self._post(partial(do, worker, answer)))

    def _placed(self, worker: int, answer: Callable[[], Any]) -> None:
        if self._is_alive(worker, answer):
            self._placed_by.pop(worker, None)
            self._began_at[worker] = time.monotonic()
            actor, (node, _) = self.actors[worker], answer()
            self._nodes.settle(actor, node)
            folder, page = self._nodes.description(node), self._nodes.page(worker, node)
            self._then(actor.start.remote(folder, page), worker, self._loaded)

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
            ValueError: what it is to load is not usable, or it died at the first start although
                its node lives.
        """
        try:
            answer()
        except Exception as error:
            if (death := death_of(error)) is None:
                raise
            call = self.bury(worker)
            at = "at its start" if call is None else "in its constructor"
            cause = f"env.id {self._plan.env_id}: a worker process died {at}: {death}"
            if not self.started and death != NODE_GONE:
                raise ValueError(cause) from error
            self.replace(worker, cause)
            return False
        return True

    def _new(self, worker: int) -> Any:
        # More than its episodes, so that no other call waits behind them: `start`, `connect` or
        # `move`, and the question whether it lives.
        concurrency = self._plan.envs + 3
        # Of the variables of this process, those that an environment is known to read.
        variables = named_variables([self._plan.env_options, "$AGENT_RL_CACHE"])
        new = process_of(
            RolloutWorker,
            max_concurrency=concurrency,
            environment={"OMP_NUM_THREADS": "1", **variables},
            place=self._places.options(worker),
        )
        return new(self._plan)


def named_variables(options: Any) -> dict[str, str]:
    """The environment variables that an environment's options name, such as `$ALFWORLD_DATA`.

    The environment reads them in the worker's process, which on a cluster does not inherit them.
    """
    if isinstance(options, dict):
        options = list(options.values())
    if isinstance(options, list | tuple):
        return {name: v for option in options for name, v in named_variables(option).items()}
    names = re.findall(r"\$\{?(\w+)", options) if isinstance(options, str) else ()
    return {name: os.environ[name] for name in names if name in os.environ}
