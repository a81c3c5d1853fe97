"""A training step of SmolLM2-135M on ALFWorld, against TRL's GMPOTrainer: seconds and memory.

    pip install -r benchmarks/trl.txt
    python -m benchmarks.trl_step [--model SOURCE] [--steps 3] [--trl-steps 1] [SETTING=VALUE ...]

Both sides take steps of `benchmarks/trl_step.yaml`: the same policy, games, sizes and prompts'
tokens, each with all cores. One after the other, so that neither disturbs the other. Run it on a
machine that does nothing else.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.table import Table

from agent_rl.commands.bench.soak_samples import take_sample
from agent_rl.display import console, say
from agent_rl.files import write_json
from agent_rl.runs.layout import RunLayout

HERE = Path(__file__).parent
CONFIG = HERE / "trl_step.yaml"
_SECONDS_BETWEEN_LOOKS = 5.0
"""The system counts a process's pages for each look, which slows the process down."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What the steps of one side took: medians over its steps."""

    step: float
    """Wall time of a whole step, in seconds."""
    rollouts: float
    """The part of it in which episodes were played."""
    learner: float
    """The part of it in which the policy was trained on them."""
    sampled: float
    """Tokens that the policy sampled."""
    memory_gib: float
    """The most memory of all processes together; shared pages count once (PSS)."""
    memory_of: dict[str, float]
    """The memory of each kind of process at that moment, in GiB."""


def main() -> None:
    """Take the steps, and print the comparison."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a folder, a hub name or a .gguf file")
    parser.add_argument(
        "--steps", type=int, default=3, help="of this project; the first is left out"
    )
    parser.add_argument("--trl-steps", type=int, default=1, help="of TRL; 0 leaves it out")
    parser.add_argument(
        "--trl-batch", type=int, default=8, help="TRL's per_device_train_batch_size"
    )
    parser.add_argument("--json", type=Path, help="a file that gets the numbers")
    parser.add_argument("settings", nargs="*", help="of the config, for both sides")
    arguments = parser.parse_args()
    settings = list(arguments.settings)
    if arguments.model:
        settings.append(f"model.path={arguments.model}")
    with tempfile.TemporaryDirectory() as folder:
        sides = {"agent_rl": ours(settings, arguments.steps, Path(folder) / "run")}
        if arguments.trl_steps:
            file = Path(folder) / "trl.json"
            sides["TRL"] = trls(settings, arguments.trl_steps, arguments.trl_batch, file)
    console.print(table(sides))
    if arguments.json:
        write_json(arguments.json, {name: asdict(side) for name, side in sides.items()})


def ours(settings: Sequence[str], steps: int, run: Path) -> Side:
    """Take steps with `agent-rl train`; the first one warms up, and does not count."""
    own = [*settings, f"run_folder={run}", f"train.rollout_steps={steps}"]
    command = [sys.executable, "-m", "agent_rl.cli", "train", str(CONFIG), *own]
    metrics = RunLayout(run).train.metrics_file
    memory = watched(command, run, metrics)
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    rows = rows[1:] or rows

    def seconds(share: str) -> float:
        return statistics.median([float(row["time/seconds"] * row[share]) for row in rows])

    return Side(
        step=statistics.median([row["time/seconds"] for row in rows]),
        rollouts=seconds("time/rollout_share"),
        learner=seconds("time/learner_share"),
        sampled=statistics.median([row["learner/trained_tokens"] for row in rows]),
        memory_gib=sum(memory.values()),
        memory_of=memory,
    )


def trls(settings: Sequence[str], steps: int, batch: int, file: Path) -> Side:
    """Take steps with TRL's GMPOTrainer."""
    command = [sys.executable, "-m", "benchmarks.trl_side", str(CONFIG), "--json", str(file)]
    command += ["--steps", str(steps), "--batch", str(batch)]
    for setting in settings:
        command += ["--set", setting]
    memory = watched(command, file.parent, file)
    found = json.loads(file.read_text())
    learner = [
        whole - part for whole, part in zip(found["seconds"], found["rollouts"], strict=True)
    ]
    return Side(
        step=statistics.median(found["seconds"]),
        rollouts=statistics.median(found["rollouts"]),
        learner=statistics.median(learner),
        sampled=statistics.median(found["sampled"]),
        memory_gib=sum(memory.values()),
        memory_of=memory,
    )


def watched(command: Sequence[str], folder: Path, metrics: Path) -> dict[str, float]:
    """Run a command; return the memory of its processes when it was the most, in GiB."""
    say(" ".join(command))
    begin = time.monotonic()
    child = subprocess.Popen(
        command,
        env={
            **os.environ,
            "PYTHONPATH": str(HERE.parent) + os.pathsep + os.environ.get("PYTHONPATH", ""),
        },
    )
    most: dict[str, float] = {}
    while child.poll() is None:
        try:
            sample = take_sample(psutil.Process(child.pid), folder, metrics, begin)
        except psutil.Error:
            break  # It has just ended.
        memory = {kind: mib / 1024 for kind, mib in sample.memory_mib.items()}
        if sum(memory.values()) > sum(most.values()):
            most = memory
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if child.wait():
        raise SystemExit(f"error: it ended with exit status {child.returncode}")
    return most


def table(sides: dict[str, Side]) -> Table:
    """Return the comparison; a ratio is TRL's number over this project's."""
    shown = Table(title="One training step")
    shown.add_column("")
    for name in sides:
        shown.add_column(name, justify="right")
    if "TRL" in sides:
        shown.add_column("TRL / agent_rl", justify="right")
    for name, title in (
        ("step", "step, s"),
        ("rollouts", "rollouts, s"),
        ("learner", "learner, s"),
        ("sampled", "sampled tokens"),
        ("memory_gib", "most memory, GiB"),
    ):
        values = [getattr(side, name) for side in sides.values()]
        cells = [f"{value:,.1f}" for value in values]
        if len(values) == 2:
            cells.append(f"{values[1] / values[0]:.2f}")
        shown.add_row(title, *cells)
    for side, numbers in sides.items():
        for kind, gib in numbers.memory_of.items():
            cells = [f"{gib:.1f}" if name == side else "" for name in sides]
            shown.add_row(f"  {kind}", *cells)
    return shown


if __name__ == "__main__":
    main()
