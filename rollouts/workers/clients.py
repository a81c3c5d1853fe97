"""The clients that the workers have of the engines: which engine each talks to, by which name."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import uuid4

from rollouts.serving.messages import Address
from rollouts.serving.remote_policy import RemotePolicy


class ReachableEngine(Protocol):
    """What clients need of an engine."""

    actor: Any
    """Ray's actor."""
    address: Address | None
    """Where workers reach it; None before it has started."""


class EngineClients:
    """A client in each worker for each engine. While its own engine is gone, it talks to another.

    A client gets a new name whenever it changes the engine, because nobody must receive the answers
    of a predecessor.
    """

    def __init__(
        self, engines: Sequence[ReachableEngine], workers: Callable[[], Sequence[Any]]
    ) -> None:
        """Let the clients talk to their own engines.

        Args:
            workers: returns the actors of the workers, in their order.
        """
        self._talking_to, self._workers = [*engines], workers
        self._names: dict[int, list[str]] = {}
        """The names of each worker's clients, in the order of their engines."""

    def make(self, worker: int) -> list[RemotePolicy]:
        """Return a client of each engine for a worker whose process is new."""
        engines = self._talking_to
        for engine, old in zip(engines, self._names.get(worker, ()), strict=False):
            engine.actor.forget.remote(old)
        names = self._names[worker] = [uuid4().hex for _ in engines]
        both = zip(engines, names, strict=True)
        return [RemotePolicy(engine.address, name) for engine, name in both]

    def begin(
        self, number: int, engine: ReachableEngine, living: Sequence[ReachableEngine]
    ) -> None:
        """Note that an engine can play: its own clients talk to it, and those that have nobody.

        Args:
            number: the number of the engine.
            living: all engines that have not died.
        """
        for other, present in enumerate(self._talking_to):
            if other == number or present not in living:
                self._move(other, engine)

    def leave(self, dead: ReachableEngine, stand_in: ReachableEngine) -> None:
        """Let the clients that talk to an engine that died talk to another one."""
        for number, present in enumerate(self._talking_to):
            if present is dead:
                self._move(number, stand_in)

    def _move(self, number: int, engine: ReachableEngine) -> None:
        """Let the workers' clients for an engine talk to this one; it gets what they wait for."""
        before, self._talking_to[number] = self._talking_to[number], engine
        for worker, actor in enumerate(self._workers()):
            if worker not in self._names:
                continue
            names = self._names[worker]
            # The clients of the first engines only learn the address.
            if before is not engine:
                before.actor.forget.remote(names[number])
                names[number] = uuid4().hex
            actor.move.remote(number, engine.address, names[number])
