"""The learner's processes: Ray actors that load the policy, train it, and write what is read of it.

The driver's process has no copy of the model. It sends samples and gets metrics:

    with LearnerProcesses(config.learner) as learner:
        learner.open(partial(load_policy, "runs/demo/sft/model"), config.learner, context)
        metrics = learner.update(samples)
        learner.write()                        # for the serving engine, into `learner.folder`
        learner.save_model(Path("my-policy"))

Each process is a rank with a `Learner`, and all ranks get the same calls. Weights leave them only
as files, written by rank 0.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.config.learner import LearnerSettings
from agent_rl.display import console, kept_lines, say
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.memory import ONEDNN
from agent_rl.learner.metrics import Metrics
from agent_rl.learner.ranks import Ranks
from agent_rl.learner.samples import TrainingSample
from agent_rl.learner.sharding import LOOPBACK, join, listen
from agent_rl.policy.saving import save_policy
from agent_rl.policy.weight_sync import ServingCopy, served_files
from rollouts.processes.gpus import rank_share, require_gpus
from rollouts.processes.openmp import OPENMP
from rollouts.processes.ray_cluster import (
    WAIT_SECONDS,
    Need,
    Places,
    node_address,
    reserve,
    this_node,
)
from rollouts.processes.ray_failures import NoAnswer
from rollouts.processes.ray_processes import (
    calls_of_all,
    end_processes,
    gpu_count,
    process_of,
    put,
    start_ray,
    stop_ray,
    wait_for_all,
)
from rollouts.settings import ServingSettings

LoadPolicy = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]
"""Loads a policy in the process that calls it. Small to send: a `partial` with a path, no model."""


class LearnerProcesses:
    """A learner in `learner.ranks` processes, seen from the driver's; also `ServedWeights`.

    It has the methods of a `Learner` that a trainer calls, with the same errors. Use it as a
    context manager.
    """

    def __init__(self, settings: LearnerSettings, serving: ServingSettings | None = None) -> None:
        """Start Ray and the processes. It does not wait for the processes, which take seconds.

        Args:
            settings: say how many processes, and on which devices.
            serving: of the engines that serve what is learned, by default the settings' defaults.

        Raises:
            ValueError: there are too few GPUs.
        """
        self._ranks: list[Any] = []
        self._places = Places(())
        self._starting: list[Any] = []
        """Calls that have not been waited for."""
        self._folder: Path | None = None
        self._folders: set[Path] = set()
        """All folders that rank 0 has told of."""
        self._limit_seconds = settings.timeout_seconds
        self._hung: NoAnswer | None = None
        """Why the processes are not called any more."""
        with console.status("starting Ray"):
            start_ray()
        self._is_open = True
        try:
            self._start(settings, serving or ServingSettings())
        except BaseException:
            self.close()
            raise

    def open(
        self,
        load: LoadPolicy,
        settings: LearnerSettings,
        context: LearnerContext,
        *,
        load_reference: LoadPolicy | None = None,
    ) -> None:
        """Let each process load a policy, in place of the one before, and prepare to train it.

        This returns at once. The next call of another method raises what goes wrong.

        Args:
            load: is called in each process.
            settings: of the learner; ranks, device and threads are those of the processes.
            context: of the run, without a reference.
            load_reference: loads the policy that `beta` compares with.
        """
        assert context.reference is None, "each process loads its own reference"
        if context.failure_folder is not None:
            context = replace(context, failure_folder=context.failure_folder.absolute())
        of_ranks = settings.model_copy(update={"threads": self._threads})
        self._folder = None
        self._starting += [
            rank.open.remote(load, of_ranks, context, load_reference) for rank in self._ranks
        ]

    def wait(self) -> None:
        """Wait until the processes have done what `open` asks for.

        Raises:
            ValueError: the policy cannot be loaded or trained.
        """
        if not self._starting:
            return
        starting, self._starting = self._starting, []
        with console.status("starting the learner"):
            answers = self._answers(starting)
        for lines in answers:
            _say_all(lines)

    def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.update`; the metrics are the same in every rank."""
        metrics: Metrics
        metrics, lines = self._call("update", put(samples))
        _say_all(lines)
        return metrics

    def token_records(self) -> dict[str, Tensor]:
        """As `Learner.token_records`."""
        records: dict[str, Tensor] = self._call("token_records")
        return records

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.supervised_step`."""
        metrics: Metrics = self._call("supervised_step", put(samples))
        return metrics

    def save(self, folder: Path) -> None:
        """As `Learner.save`."""
        self._call("save", folder.absolute())

    def load(self, folder: Path) -> None:
        """As `Learner.load`."""
        self._call("load", folder.absolute())

    def save_model(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder (see `save_policy`)."""
        self._call("save_model", folder.absolute())

    @property
    def folder(self) -> Path:
        """The folder that the serving engine loads; the first weights are written if need be."""
        if self._folder is None:
            self.write()
        assert self._folder is not None
        return self._folder

    def write(self) -> None:
        """As `ServingCopy.write`, in rank 0."""
        self._folder, lines = self._call("write")
        self._folders.add(self._folder)
        _say_all(lines)

    def close(self) -> None:
        """End the processes and delete what they wrote for the engine. A second call is a no-op."""
        # The folders first: ending processes may fail, or take longer than a stopped job has.
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        ranks, self._ranks, self._starting = self._ranks, [], []
        try:
            end_processes(ranks)
        finally:
            self._places.hand_over()
            if self._is_open:
                self._is_open = False
                stop_ray()

    def __enter__(self) -> "LearnerProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call a method of all ranks; return the answer of rank 0."""
        self.wait()
        if self._hung is not None:
            raise self._hung  # whoever cleans up need not wait as long again
        return self._answers(calls_of_all(self._ranks, method, *arguments))[0]

    def _answers(self, calls: Sequence[Any]) -> list[Any]:
        """Wait for calls, but no longer than the limit."""
        try:
            return wait_for_all(calls, seconds=self._limit_seconds)
        except NoAnswer as error:
            limit = f"{self._limit_seconds:g} s (learner.timeout_seconds)"
            self._hung = NoAnswer(f"the learner did not answer within {limit}")
            raise self._hung from error

    def _start(self, settings: LearnerSettings, serving: ServingSettings) -> None:
        count, there = settings.ranks, gpu_count()
        on_gpus = settings.device != "cpu" and there > 0
        require_gpus(serving, there, ranks=count if on_gpus else 0)
        # Each process would take all cores otherwise. OpenMP reads the variable when it starts.
        self._threads = settings.threads or max(torch.get_num_threads() // count, 1)
        environment = {"OMP_NUM_THREADS": str(self._threads), **OPENMP, **ONEDNN}
        # The first writes what this process reads: checkpoints, and the weights for the engine.
        share, cores = rank_share(there) if on_gpus else 0.0, max(settings.threads, 1)
        needs = [Need(cpus=cores, gpus=share, here=rank == 0) for rank in range(count)]
        self._places = reserve(needs, f"learner.ranks: {count} (learner.threads: {cores})")
        self._ranks = [
            process_of(
                LearnerRank,
                max_concurrency=1,
                environment=environment,
                place=self._places.options(rank),
            )(rank, size=count, device=settings.device, serving=serving)
            for rank in range(count)
        ]
        self._places.hand_over()
        if self._places.may_wait:
            self._await_places()
        if count > 1:
            # The answers of some are arguments of others: Ray waits for them, the driver need not.
            machines = [rank.machine.remote() for rank in self._ranks]
            address = self._ranks[0].listen.remote(*machines)
            self._starting = [rank.join.remote(address) for rank in self._ranks]

    def _await_places(self) -> None:
        """Wait until each process is on a node. Engines that start next could take its room."""
        with console.status("starting the learner"):
            try:
                wait_for_all(calls_of_all(self._ranks, "process_id"), seconds=WAIT_SECONDS)
            except NoAnswer as error:
                raise ValueError(
                    f"no node has had room for the learner for {WAIT_SECONDS:g} s: "
                    f"{self._places.missing()}"
                ) from error


class LearnerRank:
    """One of the processes: an actor of Ray that holds a `Learner`."""

    def __init__(self, rank: int, *, size: int, device: str, serving: ServingSettings) -> None:
        self._rank, self._size = rank, size
        self._device, self._serving = device, serving
        self._store: Any = None
        self._ranks = Ranks()
        self._learner: Learner | None = None
        self._tokenizer: PreTrainedTokenizerBase | None = None
        self._copy: ServingCopy | None = None
        self._has_written = False
        """Whether rank 0 has written this policy before."""

    def machine(self) -> str:
        """Return Ray's id of the node that the process runs on."""
        return this_node()

    def listen(self, *machines: str) -> str:
        """Open the ranks' rendezvous in the first rank; return its address for `join`.

        Args:
            machines: nodes of all ranks. If they are one, no other needs to reach the address.
        """
        is_one = len(set(machines)) == 1
        self._store, address = listen(LOOPBACK if is_one else node_address())
        return address

    def join(self, address: str) -> list[str]:
        """Wait for the other ranks. A rank alone has no need to."""
        on_gpu = self._device != "cpu" and torch.cuda.is_available()
        self._ranks = join(
            self._store if self._rank == 0 else address,
            rank=self._rank,
            size=self._size,
            device=torch.device("cuda" if on_gpu else "cpu"),
        )
        return []

    def open(
        self,
        load: LoadPolicy,
        settings: LearnerSettings,
        context: LearnerContext,
        load_reference: LoadPolicy | None,
    ) -> list[str]:
        """Load a policy and make its learner; the weights are divided among the ranks.

        Returns:
            In rank 0 the lines to show to the user.
        """
        # The policy before goes first: there may not be room for two.
        if self._copy is not None:
            self._copy.close()
        self._copy = self._learner = None
        self._has_written = False
        with kept_lines() as lines:
            model, self._tokenizer = load()
            if load_reference is not None:
                context = replace(context, reference=load_reference()[0])
            self._learner = Learner(model, settings, context, ranks=self._ranks)
        return lines if self._rank == 0 else []

    def update(self, samples: Sequence[TrainingSample]) -> tuple[Metrics, list[str]]:
        """Return the metrics of `Learner.update`, and the lines to show to the user."""
        with kept_lines() as lines:
            metrics = self._opened.update(samples)
        return metrics, lines

    def token_records(self) -> dict[str, Tensor]:
        """As `Learner.token_records`, in rank 0, which has those of all ranks."""
        return self._opened.token_records() if self._rank == 0 else {}

    def supervised_step(self, samples: Sequence[TrainingSample]) -> Metrics:
        """As `Learner.supervised_step`."""
        return self._opened.supervised_step(samples)

    def save(self, folder: Path) -> None:
        """As `Learner.save`."""
        self._opened.save(folder)

    def load(self, folder: Path) -> None:
        """As `Learner.load`."""
        self._opened.load(folder)

    def save_model(self, folder: Path) -> None:
        """Write the policy as a Hugging Face folder, in rank 0."""
        assert self._tokenizer is not None, "open() comes first"
        save_policy(self._opened.model, self._tokenizer, folder)

    def write(self) -> tuple[Path, list[str]] | None:
        """Write the weights for the serving engine, in rank 0.

        Returns:
            In rank 0 the folder, and the lines to show to the user.
        """
        model = self._opened.model
        if self._rank > 0:
            # It takes part in gathering each weight. What becomes of it is up to rank 0.
            served_files(model, "float32", self._serving.lora, again=self._has_written)
            self._has_written = True
            return None
        with kept_lines() as lines:
            if self._copy is None:
                assert self._tokenizer is not None
                self._copy = ServingCopy(
                    model, self._tokenizer, self._serving.dtype, lora=self._serving.lora
                )
            else:
                self._copy.write()
        if self._serving.sleep:
            # torch keeps the memory of the update, which the engine takes again after this.
            torch.cuda.empty_cache()
        return self._copy.folder, lines

    @property
    def _opened(self) -> Learner:
        assert self._learner is not None, "open() comes first"
        return self._learner


def _say_all(lines: Sequence[str]) -> None:
    for line in lines:
        say(line)
