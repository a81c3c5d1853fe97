"""`agent-rl envs`: the list, the check and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

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


def run(*arguments: str, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent_rl.cli", "envs", *arguments]
    environment = {"PYTHONPATH": f"{ROOT}:{path}", "COLUMNS": "160"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )


def test_the_list() -> None:
    ended = run("list")
    assert ended.returncode == 0
    assert "guess-the-number" in ended.stdout
    assert "gymnasium's ids, such as FrozenLake-v1" in ended.stdout


def test_a_check_that_passes() -> None:
    ended = run("check", "FrozenLake-v1", "kwargs.map_name=8x8", "commands=[left, down, right, up]")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("FrozenLake-v1: keeps the contract\n")


def test_a_check_that_fails() -> None:
    ended = run("check", "tests.builders.number_env:NumberEnv")
    assert ended.returncode == 1
    assert "raise gymnasium.error.ResetNeeded" in ended.stdout
    assert ended.stdout.endswith("tests.builders.number_env:NumberEnv: 2 of 13 checks failed\n")


def test_an_environment_that_cannot_be_made_fails_its_check(tmp_path: Path) -> None:
    (tmp_path / "broken_env.py").write_text(BROKEN)
    ended = run("check", "broken_env:Raises", path=tmp_path)
    assert ended.returncode == 1
    assert "making the environment raised RuntimeError: no server" in ended.stdout
    ended = run("check", "broken_env:Hangs", "--seconds", "0.5", path=tmp_path)
    assert ended.returncode == 1
    assert "making the environment had not come back after 0.5 seconds" in ended.stdout
    ended = run("check", "broken_env:Counts", path=tmp_path)
    assert ended.returncode == 1
    assert "making the environment raised ValueError: only one at a time" in ended.stdout


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
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    ended = run("check", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {message}")
