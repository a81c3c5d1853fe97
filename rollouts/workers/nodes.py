"""The nodes that workers and engines run on: what each needs there, and what is known of it here.

On the pool's own node processes read the pool's files. On another node a caretaker writes them: the
small files by value, and the weights from Ray's object store, once for all engines there.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rollouts.processes.ray_cluster import node_process, this_node
from rollouts.processes.ray_processes import (
    end_processes,
    get,
    process_of,
    put,
    wait,
    when_answered,
)
from rollouts.serving.served_adapter import FOLDER, adapter_in
from rollouts.serving.served_adapter import WEIGHTS as ADAPTER
from rollouts.workers.calls import Call
from rollouts.workers.caretaker import SILENT_SECONDS, WEIGHTS, Caretaker
from rollouts.workers.events import Event

_ANSWER_SECONDS = 5.0
"""The longest wait for a caretaker, whose node may be gone."""
_FRESH_SECONDS = 5.0
"""A caretaker that has not answered for so long is not believed any more."""
_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt")


@dataclass(kw_only=True, eq=False)
class _Other:
    """Another node."""

    caretaker: Any
    """Ray's actor."""
    calls: dict[int, Call] = field(default_factory=dict)
    """The calls under way there when it last answered."""
    heard_at: float = field(default_factory=time.monotonic)
    """When it was started, or last answered (monotonic)."""
    asked: bool = False
    """Whether a question for them is under way."""
    folder: Any = None
    """Ray's reference to the folder there with the small files."""
    served: Any = None
    """Ray's reference to that folder with the present weights; None before they are sent."""
    has_base: bool = False
    """Whether the weights of an adapter's base were sent."""

    @property
    def is_heard(self) -> bool:
        """Whether the caretaker has answered lately."""
        return time.monotonic() - self.heard_at < _FRESH_SECONDS


class Nodes:
    """The caretakers of all nodes. Its methods run in the pool's thread.

    What is meant for a process on another node comes as Ray's reference to what its caretaker
    answers. Ray fills it in before it calls the process.
    """

    def __init__(self, folder: Path | None, *, post: Callable[[Event], None]) -> None:
        """Know this node only.

        Args:
            folder: the model's, on this node.
            post: lets the pool's thread call a function.
        """
        self._folder, self._post = folder, post
        self._here, self._own = this_node(), Caretaker()
        self._others: dict[str, _Other] = {}
        self._node_of: dict[int, str] = {}
        """The node of each worker."""
        self._small: Any = None
        """Ray's reference to the model's small files."""
        self._weights: Any = None
        """Ray's reference to the present weights."""

    def is_here(self, node: str | None) -> bool:
        """Return whether a node is that of this process."""
        return node == self._here

    def use_folder(self, folder: Path) -> None:
        """Give out the weights in `folder` from now on, which is on this node."""
        self._folder, self._weights = folder, None
        for other in self._others.values():
            other.served = None

    def settle(self, actor: Any, node: str) -> None:
        """Let a process on another node end with the caretaker there."""
        if node != self._here:
            actor.live_with.remote(self._other(node).caretaker.process_id.remote())

    def page(self, worker: int, node: str) -> Any:
        """Return the file for the calls of a worker that is now on `node`."""
        self._node_of[worker] = node
        if node == self._here:
            return self._own.page(worker)
        return self._other(node).caretaker.page.remote(worker)

    def description(self, node: str) -> Any:
        """Return the folder on `node` with the tokenizer and the config; None without a model."""
        if node == self._here or self._folder is None:
            return self._folder
        other = self._other(node)
        if other.folder is None:
            other.folder = other.caretaker.hold.remote(*self._model())
        return other.folder

    def weights(self, node: str) -> Any:
        """Return the folder on `node` with the present weights too.

        This is the only way of weights to an engine. A transfer between GPUs, such as NCCL's, would
        take the place of this method and of `ServedPolicy.sync_weights`.
        """
        assert self._folder is not None
        if node == self._here:
            return self._folder
        other = self._other(node)
        if other.served is None:
            adapter = adapter_in(self._folder)
            if adapter is None:
                new = self._put_present(self._weights_file), None
            else:
                # The base goes there once.
                base = None if other.has_base else _put_file(self._weights_file)
                new = base, self._put_present(adapter / ADAPTER)
            other.served = other.caretaker.hold.remote(*self._model(), *new)
            other.has_base = adapter is not None
        return other.served

    def calls(self) -> dict[int, Call]:
        """Return the calls under way by worker; those of other nodes as of the last answer.

        If a caretaker is silent, nothing is known of its workers' calls.
        """
        found = self._own.calls()
        for other in self._others.values():
            if other.is_heard:
                found |= other.calls
        return {worker: call for worker, call in found.items() if worker in self._node_of}

    def take_call(self, worker: int) -> Call | None:
        """Return the call that a dead worker died in, if that is known."""
        node = self._node_of.pop(worker, None)
        if node == self._here:
            return self._own.take_call(worker)
        other = self._others.get(node or "")
        if other is None:
            return None
        other.calls.pop(worker, None)
        # Its node may be gone with it, and with many workers. So one of them waits, and no more.
        if not other.is_heard:
            return None
        try:
            call: Call | None = get(
                other.caretaker.take_call.remote(worker), seconds=_ANSWER_SECONDS
            )
        except Exception:
            other.heard_at = -math.inf
            return None
        return call

    def look(self) -> None:
        """Ask the caretakers for the calls under way. This tells them that the pool lives, too."""
        for node, other in self._others.items():
            if not other.asked:
                other.asked = True
                answered = partial(self._answered, node, other)
                when_answered(other.caretaker.calls.remote(), answered)

    def close(self) -> None:
        """End the caretakers; what they kept is deleted."""
        others, self._others = [*self._others.values()], {}
        wait([other.caretaker.close.remote() for other in others], seconds=_ANSWER_SECONDS)
        end_processes([other.caretaker for other in others])
        self._own.close()

    def _answered(self, node: str, other: _Other, answer: Callable[[], Any]) -> None:
        """Let the pool's thread note an answer, which comes in a thread of Ray's."""
        self._post(partial(self._note, node, other, answer))

    def _note(self, node: str, other: _Other, answer: Callable[[], dict[int, Call]]) -> None:
        other.asked = False
        try:
            other.calls, other.heard_at = answer(), time.monotonic()
        except Exception:
            # It is gone, with its node or alone. Its processes end too, and are replaced.
            if self._others.get(node) is other:
                del self._others[node]

    def _other(self, node: str) -> _Other:
        if node not in self._others:
            start = process_of(
                Caretaker, max_concurrency=8, environment={}, place=node_process(node)
            )
            self._others[node] = _Other(caretaker=start(silent_seconds=SILENT_SECONDS))
        return self._others[node]

    def _model(self) -> tuple[Any, int]:
        """The model's small files, and the size of its weights, as `Caretaker.hold` takes them.

        Raises:
            ValueError: the weights are not one file of safetensors.
        """
        assert self._folder is not None
        if self._small is None:
            files = {path.name: path for path in self._folder.iterdir()}
            adapter = adapter_in(self._folder)
            if adapter is not None:
                files |= {f"{FOLDER}/{path.name}": path for path in adapter.iterdir()}
            small = {n: p for n, p in files.items() if p.is_file() and p.suffix not in _WEIGHTS}
            self._small = put({name: path.read_bytes() for name, path in small.items()})
        if not self._weights_file.is_file():
            raise ValueError(
                f"model {self._folder}: holds no {WEIGHTS}, which goes to engines on other nodes; "
                "save it in one file"
            )
        return self._small, self._weights_file.stat().st_size

    def _put_present(self, file: Path) -> Any:
        """Return Ray's reference to the file that changes with each version, for all nodes."""
        if self._weights is None:
            self._weights = _put_file(file)
        return self._weights

    @property
    def _weights_file(self) -> Path:
        assert self._folder is not None
        return self._folder / WEIGHTS


def _put_file(file: Path) -> Any:
    return put(np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray))
