"""`agent-rl bench soak`: train for hours, and look at what grows.

A training run that grows a little with each step ends some night. This command trains, looks at the
processes, the shared memory and the folders every few seconds, and draws them over time. At the end
it ends the training as a scheduler does (SIGTERM), and looks at what is left.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from agent_rl.commands.bench.soak_samples import (
    SHARED_MEMORY,
    Sample,
    folder_mib,
    ray_folders,
    take_sample,
)
from agent_rl.config import Config
from agent_rl.display import console, progress, say
from agent_rl.files import write_json
from agent_rl.runs.layout import RunLayout

WARM_UP = 0.25
"""The part of a soak that does not count: caches fill, and allocators find their size."""
_FLAT = 0.02
"""Growth in an hour that counts as none, as a share of the value after the warm-up."""
_FEWEST = 4
"""Samples without which there is nothing to compare."""
_SECONDS_TO_END = 120.0

QUANTITIES: dict[str, tuple[str, Callable[[Sample], float]]] = {
    "memory": ("MiB", lambda sample: sample.memory_mib_all),
    "processes": ("", lambda sample: sample.processes),
    "open files": ("", lambda sample: sample.open_files),
    "threads": ("", lambda sample: sample.threads),
    "shared memory": ("MiB", lambda sample: sample.shared_memory_mib),
    "Ray's folder": ("MiB", lambda sample: sample.ray_mib),
    "run folder": ("MiB", lambda sample: sample.run_mib),
}
"""What is watched: its unit, and how it is read from a sample."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How one quantity changed after the warm-up."""

    first: float
    """The median of the first fifth after the warm-up."""
    last: float
    """The median of the last fifth."""
    most: float
    """The largest value of all."""
    hourly: float
    """The growth in an hour: the median slope over all pairs of samples (Theil-Sen)."""

    @property
    def flat(self) -> bool:
        """Whether it grows by less than 2 % in an hour."""
        return self.hourly <= _FLAT * max(self.first, 1.0)


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What there is after the end that was not there before the start."""

    status: int | None
    """The exit status; None if the command did not end in time and was killed."""
    processes: list[str]
    """Processes of the command that are still there."""
    shared_memory_mib: float
    """What has come to /dev/shm, whoever put it there."""
    ray_mib: float
    """What Ray's folder still holds."""


def bench_soak(
    config: Config,
    arguments: Sequence[str],
    *,
    minutes: float,
    every: float,
    png_file: Path | None,
    json_file: Path | None,
) -> None:
    """Train for some minutes; print what grew, and draw it.

    Args:
        config: the run's, for its folder.
        arguments: the config's file and its overrides, as `agent-rl train` takes them.
        minutes: how long.
        every: seconds between two samples.
        png_file: where the picture goes.
        json_file: where all samples go.

    Raises:
        ValueError: the training failed, or there was no time for four samples.
    """
    run = RunLayout(Path(config.run_folder))
    shared_before = folder_mib(SHARED_MEMORY)
    command = [sys.executable, "-m", "agent_rl.cli", "train", *arguments]
    begin = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    samples: list[Sample] = []
    try:
        root = psutil.Process(child.pid)
        with progress("samples", round(60 * minutes / every)) as advance:
            while child.poll() is None and time.monotonic() - begin < 60 * minutes:
                samples.append(take_sample(root, run.folder, run.train.metrics_file, begin))
                _save(samples, None, json_file)
                advance(f"{samples[-1].steps} rollout steps")
                time.sleep(every)
            ended_early = child.poll() not in (None, 0)
    finally:
        left = _end(child, shared_before)
    if ended_early or len(samples) < _FEWEST:
        raise ValueError(
            f"bench soak: {len(samples)} samples, and the training's exit status is {left.status}. "
            "Its own message is above; without one, take more --minutes or a smaller --every"
        )
    say(f"samples: {len(samples)}, rollout steps: {samples[-1].steps}")
    console.print(table(samples))
    say(
        f"after the end: exit status {left.status}, {len(left.processes)} processes, "
        f"{left.shared_memory_mib:+.1f} MiB of shared memory, {left.ray_mib:.1f} MiB of Ray's"
    )
    _save(samples, left, json_file)
    if png_file is not None:
        draw(samples, png_file)
        say(f"picture: {png_file}")


def growth(samples: Sequence[Sample], read: Callable[[Sample], float]) -> Growth:
    """Compare the values of a quantity after the warm-up; there must be at least two samples."""
    # Imported here, because scipy takes a while to load.
    from scipy.stats import theilslopes

    after = samples[int(len(samples) * WARM_UP) :]
    values = [read(sample) for sample in after]
    fifth = max(1, len(values) // 5)
    slope = theilslopes(values, [sample.seconds / 3600 for sample in after]).slope
    return Growth(
        first=statistics.median(values[:fifth]),
        last=statistics.median(values[-fifth:]),
        most=max(read(sample) for sample in samples),
        hourly=float(slope),
    )


def table(samples: Sequence[Sample]) -> Table:
    """A row for each quantity, and for the memory of each kind of process."""
    shown = Table(title="over time", title_justify="left", box=None)
    for name in ("", "after warm-up", "at the end", "most", "per hour", "flat"):
        shown.add_column(name, justify="left" if not name else "right")
    for name, (unit, read) in readings(samples).items():
        grown = growth(samples, read)
        label = f"{name}, {unit}" if unit else name
        numbers = (grown.first, grown.last, grown.most)
        row = [f"{number:,.0f}" for number in numbers]
        shown.add_row(label, *row, f"{grown.hourly:+,.1f}", "yes" if grown.flat else "no")
    return shown


def readings(samples: Sequence[Sample]) -> dict[str, tuple[str, Callable[[Sample], float]]]:
    """The quantities, with the memory of each kind of process after the memory of all."""
    kinds = sorted({kind for sample in samples for kind in sample.memory_mib})

    def memory_of(kind: str) -> Callable[[Sample], float]:
        return lambda sample: sample.memory_mib.get(kind, 0.0)

    rows = dict(QUANTITIES)
    memory = {"memory": rows.pop("memory")}
    of_kinds = {f"memory of {kind}": ("MiB", memory_of(kind)) for kind in kinds}
    return memory | of_kinds | rows


def draw(samples: Sequence[Sample], path: Path) -> None:
    """Write a PNG: memory by kind of process, and a panel for each other quantity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    minutes = [sample.seconds / 60 for sample in samples]
    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    panels = figure.subplots(4, 2, sharex=True).flat
    memory, counts = panels[0], list(panels[1:])
    kinds = sorted({kind for sample in samples for kind in sample.memory_mib})
    rows = [[sample.memory_mib.get(kind, 0.0) for sample in samples] for kind in kinds]
    memory.stackplot(minutes, rows, labels=kinds)
    memory.legend(fontsize=7, loc="lower right")
    memory.set_title("memory, MiB", fontsize=10)
    others = [item for item in QUANTITIES.items() if item[0] != "memory"]
    for panel, (name, (unit, read)) in zip(counts, others, strict=False):
        panel.plot(minutes, [read(sample) for sample in samples], color="#0b5fa5")
        panel.set_title(f"{name}, {unit}" if unit else name, fontsize=10)
    counts[-1].plot(minutes, [sample.steps for sample in samples], color="#0b5fa5")
    counts[-1].set_title("rollout steps", fontsize=10)
    for panel in (memory, *counts):
        panel.grid(color="#dddddd", linewidth=0.6)
        panel.set_ylim(bottom=0)
    for panel in counts[-2:]:
        panel.set_xlabel("minutes")
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=110, format="png")


def _end(child: subprocess.Popen[bytes], shared_before: float) -> Leftovers:
    """End the training, wait, and look at what it left."""
    family, folders = [], set()
    try:
        family = psutil.Process(child.pid).children(recursive=True)
        for process in family:
            folders |= ray_folders(process.cmdline())
    except psutil.Error:
        pass  # It has ended by itself.
    if child.poll() is None:
        # Not SIGINT: a command that a script starts in the background ignores it.
        child.terminate()
    try:
        status: int | None = child.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        child.kill()
        status = None
    _, alive = psutil.wait_procs(family, timeout=10.0)
    return Leftovers(
        status=status,
        processes=[str(process) for process in alive],
        shared_memory_mib=folder_mib(SHARED_MEMORY) - shared_before,
        ray_mib=sum(map(folder_mib, folders)),
    )


def _save(samples: Sequence[Sample], left: Leftovers | None, path: Path | None) -> None:
    """Keep what is known so far; a soak may be cut short."""
    if path is None:
        return
    record: dict[str, Any] = {"samples": [asdict(sample) for sample in samples]}
    if left is not None:
        rows = readings(samples).items()
        record["growth"] = {name: asdict(growth(samples, read)) for name, (_, read) in rows}
        record["leftovers"] = asdict(left)
    write_json(path, record)
