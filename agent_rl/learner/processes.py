"""The learner in one process or in several.

With one rank the `Learner` works in the trainer's process. With more, each rank is a process of Ray
with a `Learner`; all of them get the same calls. `open_learner` makes the one or the other.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.sharding import LOOPBACK, ShardedRanks, join, listen
from rollouts.processes.openmp import OPENMP
from rollouts.processes.ray_processes import (
    call_all,
    end_processes,
    gpu_count,
    process_of,
    put,
    start_ray,
    stop_ray,
)


class RankedLearner:
    """A learner in `settings.ranks` processes, seen from the trainer's process.

    It has the methods of a `Learner` that a trainer calls. The caller's model is a copy of the
    trained weights: `update`, `load` and `fetch_weights` refresh it.
    """

    def __init__(
        self, model: PreTrainedModel, settings: LearnerSettings, context: LearnerContext
    ) -> None:
        """Start the processes, which takes some seconds.

        Args:
            model: the caller's copy of the trained model.
            settings: of the learner, with more than one rank.
            context: of the run.
        """
        self._model = model
        start_ray()
        self._open = True
        self._processes: list[Any] = []
        try:
            self._start(settings, context)
        except BaseException:
            self.close()
            raise

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.update`; the metrics are the same in every rank."""
        metrics: Metrics = call_all(self._processes, "update", put(samples))[0]
        self.fetch_weights()
        return metrics

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.supervised_step`; it leaves the caller's model as it was."""
        metrics: Metrics = call_all(self._processes, "supervised_step", samples)[0]
        return metrics

    def save(self, folder: Path) -> None:
        """As `Learner.save`."""
        call_all(self._processes, "save", folder.absolute())

    def load(self, folder: Path) -> None:
        """As `Learner.load`."""
        call_all(self._processes, "load", folder.absolute())
        self.fetch_weights()

    def fetch_weights(self) -> None:
        """Copy the trained weights into the caller's model."""
        weights: dict[str, Tensor] = call_all(self._processes, "full_weights")[0]
        self._model.load_state_dict(weights)

    def close(self) -> None:
        """End the processes. A second call is a no-op."""
        end_processes(self._processes)
        self._processes = []
        if self._open:
            self._open = False
            stop_ray()

    def _start(self, settings: LearnerSettings, context: LearnerContext) -> None:
        count, gpus = settings.ranks, 0 if settings.device == "cpu" else gpu_count()
        if 0 < gpus <= count:
            raise ValueError(
                f"learner.ranks: {count} ranks need a GPU each, and the serving engine one; "
                f"there are {gpus}: set {max(gpus - 1, 1)}, or learner.device: cpu"
            )
        # Each process would take all cores otherwise. OpenMP reads the variable when it starts.
        threads = settings.threads or max((os.cpu_count() or 1) // count, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **OPENMP}
        new = process_of(
            LearnerRank, max_concurrency=1, environment=environment, gpus=float(gpus > 0)
        )
        # `put` stores a value once, for all ranks to read.
        model, shared_context = put(self._model), put(context)
        of_rank = settings.model_copy(update={"threads": threads})
        self._processes = [
            new(model, of_rank, rank=rank, context=shared_context) for rank in range(count)
        ]
        # Two calls, as the ranks can only join at an address that rank 0 has opened.
        machines = call_all(self._processes, "machine")
        is_one = len(set(machines)) == 1
        (address,) = call_all(self._processes[:1], "listen", only_here=is_one)
        call_all(self._processes, "join", address)


Learning = Learner | RankedLearner
"""A learner, whatever its number of ranks."""


def open_learner(
    model: PreTrainedModel, settings: LearnerSettings, context: LearnerContext
) -> Learning:
    """Return a learner of `settings.ranks` processes that trains a model.

    With any number of ranks, `model` has the new weights after `update`, `load` and
    `fetch_weights`. Call `close` at the end.

    Raises:
        ValueError: there are too few GPUs, or such a model cannot be trained.
    """
    if settings.ranks == 1:
        return Learner(model, settings, context)
    return RankedLearner(model, settings, context)


class LearnerRank:
    """One of the processes: an actor of Ray that holds a `Learner`."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        *,
        rank: int,
        context: LearnerContext,
    ) -> None:
        self._model, self._settings, self._rank, self._context = model, settings, rank, context
        self._store: Any = None
        self._ranks: ShardedRanks | None = None
        self._learner: Learner | None = None

    def machine(self) -> str:
        """Return the name of the machine that the process runs on."""
        return socket.gethostname()

    def listen(self, *, only_here: bool) -> str:
        """Open the ranks' rendezvous in the first rank; return its address for `join`.

        Args:
            only_here: whether all ranks are on this machine, so no other needs to reach it.
        """
        host = LOOPBACK if only_here else socket.gethostbyname(socket.gethostname())
        self._store, address = listen(host)
        return address

    def join(self, address: str) -> None:
        """Wait for the other ranks, and make the learner; its weights are divided among them."""
        device = torch.device(
            "cuda" if self._settings.device != "cpu" and torch.cuda.is_available() else "cpu"
        )
        rendezvous = self._store if self._rank == 0 else address
        self._ranks = join(rendezvous, rank=self._rank, size=self._settings.ranks, device=device)
        self._learner = Learner(self._model, self._settings, self._context, ranks=self._ranks)

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.update`."""
        return self._joined.update(samples)

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.supervised_step`."""
        return self._joined.supervised_step(samples)

    def save(self, folder: Path) -> None:
        """As `Learner.save`."""
        self._joined.save(folder)

    def load(self, folder: Path) -> None:
        """As `Learner.load`."""
        self._joined.load(folder)

    def full_weights(self) -> dict[str, Tensor]:
        """As `Learner.full_weights`."""
        return self._joined.full_weights()

    @property
    def _joined(self) -> Learner:
        assert self._learner is not None, "join() comes first"
        return self._learner
