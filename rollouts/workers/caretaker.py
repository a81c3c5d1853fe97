"""What one node keeps for the workers and engines there: their call pages, and the model's files.

The pool has a caretaker in its own process, and a process with one on each other node. That process
also stands for the pool there: the others end with it, and it ends if the pool asks nothing.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.files import whole_file
from rollouts.processes.serving_folder import ServingFolder, remove_stale_folders, roomy_parent
from rollouts.serving.served_adapter import FOLDER
from rollouts.serving.served_adapter import WEIGHTS as ADAPTER
from rollouts.workers.calls import Call, CallPage

WEIGHTS = "model.safetensors"
"""The file with the weights in a served folder."""
SILENT_SECONDS = 120.0
"""A caretaker that is asked nothing for so long takes the pool for dead."""


class Caretaker:
    """Keeps pages and files on one node. Its methods may run in several threads."""

    def __init__(self, *, silent_seconds: float | None = None) -> None:
        """Keep nothing at first.

        Args:
            silent_seconds: after so many seconds without a call of `calls` the process ends; None
                for the pool's own.
        """
        self._pages: dict[int, CallPage] = {}
        self._reading = threading.Lock()
        self._model: ServingFolder | None = None
        self._holding = threading.Lock()
        self._asked_at = time.monotonic()
        if silent_seconds is not None:
            threading.Thread(target=self._watch, args=(silent_seconds,), daemon=True).start()

    def page(self, worker: int) -> Path:
        """Return the path of a new call page for a worker."""
        self.take_call(worker)
        with self._reading:
            page = self._pages[worker] = CallPage()
        return page.path

    def calls(self) -> dict[int, Call]:
        """Return the calls under way by worker."""
        self._asked_at = time.monotonic()
        with self._reading:
            read = {worker: page.read() for worker, page in self._pages.items()}
        return {worker: call for worker, call in read.items() if call is not None}

    def take_call(self, worker: int) -> Call | None:
        """Return the call that a worker died in, if any, and take its page away."""
        with self._reading:
            page = self._pages.pop(worker, None)
            if page is None:
                return None
            call = page.read()
            page.close()
            return call

    def hold(
        self,
        files: Mapping[str, bytes],
        weights_bytes: int,
        weights: Any = None,
        adapter: Any = None,
    ) -> Path:
        """Write a model's files to a private folder, in memory if there is room; return the folder.

        Args:
            files: all but the weights, by their names in the folder. They do not change.
            weights_bytes: the size of the weights, now or later.
            weights: the bytes of the file with the weights, as an array; None leaves it as it is.
            adapter: likewise of the adapter, if one is served.

        Raises:
            ValueError: there is no room.
        """
        with self._holding:
            if self._model is None:
                remove_stale_folders()
                try:
                    self._model = ServingFolder(roomy_parent(weights_bytes))
                except ValueError as error:
                    raise ValueError(f"node {socket.gethostname()}: {error}") from error
                for name, data in files.items():
                    path = self._model.path / name
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(data)
            for name, data in ((WEIGHTS, weights), (f"{FOLDER}/{ADAPTER}", adapter)):
                if data is not None:
                    with whole_file(self._model.path / name) as unfinished:
                        unfinished.write_bytes(memoryview(data))
            return self._model.path

    def close(self) -> None:
        """Delete everything."""
        for worker in [*self._pages]:
            self.take_call(worker)
        if self._model is not None:
            self._model.close()

    def _watch(self, silent_seconds: float) -> None:
        while time.monotonic() - self._asked_at < silent_seconds:
            time.sleep(min(1.0, silent_seconds / 4))
        self.close()
        # Not sys.exit: that would end this thread only.
        os._exit(1)
