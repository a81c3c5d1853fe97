"""Sweeps for tests: configs, folders as runs leave them, and stand-ins for the real processes."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from agent_rl.commands.sweep.plan import Sweep, SweepJob, SweepProgress
from agent_rl.commands.sweep.run import run_sweep
from agent_rl.config import dump_config
from agent_rl.runs.layout import missing_files
from tests.builders.runs import report, write_checkpoint

STEPS = 6
BASE: dict[str, Any] = {
    "seed": 7,
    "env": {"id": "guess-the-number"},
    "learner": {"learning_rate": 1e-3},
    "train": {"rollout_steps": STEPS, "tasks_per_step": 2, "num_generations": 4},
    "sweep": {
        "seeds": [0, 4],
        "variants": {
            "gmpo": {},
            "fast": {"learner.objective": "grpo", "learner.learning_rate": 2e-4},
        },
    },
}
REPORT = report({"valid": {"a1": [True], "b1": [False]}})
"""Success of 50 %; Wilson's interval of one game in two is 9 % to 91 %."""


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "c.yaml"
    path.write_text(
        yaml.safe_dump({"run_folder": str(folder / "sweep"), **BASE, **changes}, sort_keys=False)
    )
    return path


def with_variants(folder: Path, **variants: dict[str, Any]) -> Path:
    return write_config(folder, sweep={"variants": variants})


def made(
    job: SweepJob, *, checkpoints: tuple[int, ...] = (), evaluated: bool = False, **changes: Any
) -> SweepJob:
    """Write the files that a job leaves behind; `changes` are sections of its config then."""
    job.folder.mkdir(parents=True, exist_ok=True)
    values = job.config.model_dump()
    for section, part in changes.items():
        values[section] = {**values[section], **part}
    job.layout.config_file.write_text(dump_config(type(job.config).model_validate(values)))
    for step in checkpoints:
        write_checkpoint(job.folder, step)
    if evaluated:
        REPORT.write(job.layout.final_report)
    return job


STAND_IN = """
import os, signal, sys, time
from pathlib import Path
name, next_step, config, checkpoint_files, report = sys.argv[1:]
folder = Path(config).parent
with (folder.parent / "calls.txt").open("a") as calls:
    calls.write(f"{name} {next_step}\\n")
print(f"{name} at work", flush=True)
if name == os.environ.get("BREAK"):
    print("error: it broke", file=sys.stderr)
    sys.exit(2)
if name == os.environ.get("CRASH"):
    os.kill(os.getpid(), signal.SIGKILL)
if name == "start":
    (folder / "sft/model").mkdir(parents=True)
else:
    for file in checkpoint_files.split():
        path = folder / "train/checkpoints/step-000004" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
if name == os.environ.get("WAIT"):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print("waiting", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print("closed", flush=True)
        sys.exit(130)
(folder / "evaluations").mkdir(exist_ok=True)
(folder / "evaluations/final.json").write_text(report)
"""
"""A job's process that takes no time. The environment variables BREAK, CRASH and WAIT name a job
that fails, is killed or waits for Ctrl-C.
"""
COMPARE = """
import sys
from pathlib import Path
Path(sys.argv[1], "calls.txt").open("a").write("comparison\\n")
"""


def stand_in(job: SweepJob, progress: SweepProgress) -> list[str]:
    """The command line of a job's stand-in."""
    files = " ".join(missing_files(Path("/nowhere")))
    arguments = [job.name, progress.next_step, str(job.layout.config_file), files]
    return [sys.executable, "-c", STAND_IN, *arguments, json.dumps(REPORT.record())]


def comparison(sweep: Sweep) -> list[str]:
    """The command line of the comparison's stand-in."""
    return [sys.executable, "-c", COMPARE, str(sweep.folder)]


def go(sweep: Sweep) -> tuple[int, list[str]]:
    """Run a sweep with stand-ins; returns its exit status, and the processes that it started."""
    calls = sweep.folder / "calls.txt"
    calls.unlink(missing_ok=True)
    status = run_sweep(sweep, command=stand_in, comparison=comparison)
    return status, calls.read_text().splitlines()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds, or fail."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)
