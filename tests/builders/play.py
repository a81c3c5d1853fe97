"""Episodes of `agent-rl play` for tests: a config, an environment, a terminal."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from agent_rl.runs.trajectories import load_trajectories
from envs import Task, TextEnv
from rollouts import Trajectory
from tests.builders.paths import ROOT

NUMBER = "tests.builders.number_env:NumberEnv"
CONFIG = f"""
run_folder: run
env: {{id: "{NUMBER}"}}
serving: {{kv_cache_gib: 0.1}}
evaluation: {{split: train, temperature: 1.0}}
"""

Play = Callable[..., str]
"""Runs `agent-rl play` with arguments, and `typed=` as its input; returns its output."""


def saved(folder: Path) -> Trajectory:
    """The only episode that was saved in the default place."""
    (path,) = (folder / "runs" / "play").iterdir()
    (episode,) = load_trajectories(path)
    return episode


def at_terminal(
    folder: Path, *arguments: str, typed: bytes, interrupt_at: bytes | None = None
) -> str:
    """Play in a process at a terminal; returns everything that the terminal showed.

    Args:
        folder: the working folder.
        arguments: those of `agent-rl play`.
        typed: is typed ahead.
        interrupt_at: Ctrl-C is pressed when this text appears.
    """
    person, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent_rl.cli", "play", *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "dumb"},
        # If the tests run in the background, the shell lets them ignore Ctrl-C, and a child
        # inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(terminal)
    os.write(person, typed)
    shown = b""
    with suppress(OSError):  # how Linux says that the other side has gone
        while part := os.read(person, 4096):
            shown += part
            if interrupt_at is not None and interrupt_at in shown:
                process.send_signal(signal.SIGINT)
                os.write(
                    person, b"\n"
                )  # readline looks for signals only when it waits, which it may be about to do
                interrupt_at = None
    assert process.wait(60) == 0, shown
    os.close(person)
    return shown.decode()


class Stairs(TextEnv):
    """Ten steps up; every `up` is worth 1."""

    copies = True

    def tasks(self, split: str) -> list[Task]:
        return [Task(env_id="stairs", split=split, family="f", id=f"stairs-{n}") for n in range(20)]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        self.height = 0
        return "0", {"success": False}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.height += action == "up"
        return (
            str(self.height),
            float(action == "up"),
            self.height == 10,
            False,
            {"success": self.height == 10},
        )

    def clone(self) -> Self:
        if not self.copies:
            raise NotImplementedError
        return super().clone()


class OneWay(Stairs):
    """Stairs that cannot be copied."""

    copies = False
