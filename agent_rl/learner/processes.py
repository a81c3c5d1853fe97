"""The learner in one process or in several: what the trainer calls.

With one rank the `Learner` works in the trainer's own process. With more, each rank is a process of
Ray's with a `Learner` of its own; all get the same calls, and the trainer's model is a copy that
gets the new weights.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from agent_rl.config.learner import LearnerSettings
from agent_rl.learner.batch import TrainingSample
from agent_rl.learner.learner import Learner
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.sharding import ShardedRanks, join, listen
from rollouts.processes.openmp import OPENMP
from rollouts.processes.ray_processes import (
    call_all,
    end_processes,
    gpus_there,
    process_of,
    put,
    start_ray,
    stop_ray,
)


class Learning(Protocol):
    """What the trainer needs of a learner (see `Learner`)."""

    def update(self, samples: Sequence[TrainingSample]) -> Metrics: ...

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...

    def fetch_weights(self) -> None: ...

    def close(self) -> None: ...


def open_learner(model: PreTrainedModel, settings: LearnerSettings, **arguments: Any) -> Learning:
    """A learner of `settings.ranks` processes that trains `model`; `arguments` are those of
    `Learner`.

    Whatever the number, `model` has the new weights after `update`, `load` and `fetch_weights`.

    Raises:
        ValueError: there are too few GPUs, or the model cannot be trained so.
    """
    if settings.ranks == 1:
        return Learner(model, settings, **arguments)
    return RankedLearner(model, settings, arguments)


class RankedLearner:
    """A learner in `settings.ranks` processes, seen from the trainer's."""

    def __init__(
        self, model: PreTrainedModel, settings: LearnerSettings, arguments: dict[str, Any]
    ) -> None:
        """Start the processes, which takes some seconds."""
        self._model = model
        start_ray()
        self._open = True
        self._processes: list[Any] = []
        try:
            self._start(settings, arguments)
        except BaseException:
            self.close()
            raise

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        metrics: Metrics = call_all(self._processes, "update", put(samples))[0]
        self.fetch_weights()
        return metrics

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        metrics: Metrics = call_all(self._processes, "supervised_step", samples)[0]
        return metrics

    def save(self, folder: Path) -> None:
        call_all(self._processes, "save", folder.absolute())

    def load(self, folder: Path) -> None:
        call_all(self._processes, "load", folder.absolute())
        self.fetch_weights()

    def close(self) -> None:
        """End the processes. A second call does nothing."""
        end_processes(self._processes)
        self._processes = []
        if self._open:
            self._open = False
            stop_ray()

    def _start(self, settings: LearnerSettings, arguments: dict[str, Any]) -> None:
        count, gpus = settings.ranks, 0 if settings.device == "cpu" else gpus_there()
        if 0 < gpus <= count:
            raise ValueError(
                f"learner.ranks: {count} ranks need a GPU each, and the serving engine one; there are {gpus}: set "
                f"{max(gpus - 1, 1)}, or learner.device: cpu"
            )
        threads = settings.threads or max((os.cpu_count() or 1) // count, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **OPENMP}
        new = process_of(
            LearnerRank, max_concurrency=1, environment=environment, gpus=float(gpus > 0)
        )
        model, of_rank, others = (
            put(self._model),
            settings.model_copy(update={"threads": threads}),
            put(arguments),
        )
        self._processes = [
            new(model, of_rank, rank=rank, arguments=others) for rank in range(count)
        ]
        (address,) = call_all(self._processes[:1], "listen")
        call_all(self._processes, "join", address)

    def fetch_weights(self) -> None:
        weights: dict[str, Tensor] = call_all(self._processes, "full_weights")[0]
        self._model.load_state_dict(weights)


class LearnerRank:
    """One of the processes."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: LearnerSettings,
        *,
        rank: int,
        arguments: dict[str, Any],
    ) -> None:
        self._model, self._settings, self._rank, self._arguments = model, settings, rank, arguments
        self._store: Any = None
        self._ranks: ShardedRanks | None = None
        self._learner: Learner | None = None

    def listen(self) -> str:
        """The first rank's address, by which the others find it."""
        from socket import gethostbyname, gethostname

        self._store, address = listen(gethostbyname(gethostname()))
        return address

    def join(self, address: str) -> None:
        """Meet the others, and share the weights out."""
        device = torch.device(
            "cuda" if self._settings.device != "cpu" and torch.cuda.is_available() else "cpu"
        )
        meeting = self._store if self._rank == 0 else address
        self._ranks = join(meeting, rank=self._rank, size=self._settings.ranks, device=device)
        self._learner = Learner(self._model, self._settings, ranks=self._ranks, **self._arguments)

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        return self._joined.update(samples)

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        return self._joined.supervised_step(samples)

    def save(self, folder: Path) -> None:
        self._joined.save(folder)

    def load(self, folder: Path) -> None:
        self._joined.load(folder)

    def full_weights(self) -> dict[str, Tensor]:
        return self._joined.full_weights()

    @property
    def _joined(self) -> Learner:
        assert self._learner is not None, "join() comes first"
        return self._learner
