"""`agent-rl envs check`: its sentences and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.command_line import CommandLine
from tests.builders.paths import ROOT

BROKEN = """
import time
from envs import TextEnv
from tests.builders.number_env import NumberEnv

class Raises(NumberEnv):
    def __init__(self):
        raise RuntimeError("no server")

class Hangs(NumberEnv):
    def __init__(self):
        time.sleep(100)

class Counts(NumberEnv):
    made = 0
    def __init__(self, expert=False):
        Counts.made += 1
        if Counts.made > 1:
            raise ValueError("only one at a time")
        super().__init__(expert=expert)
"""


def test_a_check_that_passes(command_line: CommandLine) -> None:
    options = ("kwargs.map_name=8x8", "commands=[left, down, right, up]")
    ended = command_line("envs", "check", "FrozenLake-v1", *options)
    assert ended.status == 0, ended.err
    assert ended.out.endswith("FrozenLake-v1: keeps the contract\n")


def test_a_check_that_fails(command_line: CommandLine) -> None:
    ended = command_line("envs", "check", "tests.builders.number_env:NumberEnv")
    assert ended.status == 1
    assert "raise gymnasium.error.ResetNeeded" in ended.out
    assert ended.out.endswith("tests.builders.number_env:NumberEnv: 2 of 13 checks failed\n")


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("Raises", (), "making the environment raised RuntimeError: no server"),
        (
            "Hangs",
            ("--seconds", "0.5"),
            "making the environment had not come back after 0.5 seconds",
        ),
        ("Counts", (), "making the environment raised ValueError: only one at a time"),
    ],
)
def test_an_environment_that_cannot_be_made_fails_its_check(
    name: str, options: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    """In another process: a thread that hangs would stay in this one."""
    (tmp_path / "broken_env.py").write_text(BROKEN)
    ended = subprocess.run(
        [sys.executable, "-m", "agent_rl.cli", "envs", "check", f"broken_env:{name}", *options],
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert sentence in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("taxii",), "env.id: 'taxii' is not known; did you mean 'taxi'?"),
        (("taxi", "vlid=3"), "env.options: taxi has no option 'vlid'; did you mean 'valid'?"),
        (("taxi", "valid"), "'valid': write key=value"),
        (("taxi", "train=-1"), "env.options: train: -1 is not a whole number"),
        (
            ("alfworld", "games=3", "games.train=4"),
            "'games.train=4': 'games' is a value, not a section",
        ),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str, command_line: CommandLine) -> None:
    ended = command_line("envs", "check", *arguments)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {message}")
