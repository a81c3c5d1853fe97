"""`agent-rl envs`: the list, the check and its exit status."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent_rl.cli_envs import read_options
from agent_rl.config import ConfigError

HELPERS = Path(__file__).parents[1] / "rollouts"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent_rl.cli", "envs", *arguments]
    environment = {"PYTHONPATH": f"{HELPERS}:{HELPERS.parents[1]}", "COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


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
    ended = run("check", "number_env:NumberEnv")
    assert ended.returncode == 1
    assert "raise gymnasium.error.ResetNeeded" in ended.stdout
    assert ended.stdout.endswith("number_env:NumberEnv: 2 of 13 checks failed\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("taxii",), "env.id: 'taxii' is not known; did you mean 'taxi'?"),
        (("taxi", "vlid=3"), "env.options: taxi has no option 'vlid'; did you mean 'valid'?"),
        (("taxi", "valid"), "'valid': write key=value"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], message: str) -> None:
    ended = run("check", *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {message}")


def test_options_are_yaml_and_may_go_down() -> None:
    values = read_options(["size=8", "games.train=4", "games.settings={level: 3}", "data=~/games"])
    assert values == {"size": 8, "games": {"train": 4, "settings": {"level": 3}}, "data": "~/games"}
    for wrong in ("size", "=3", "size.=3", "a=["):
        with pytest.raises(ConfigError, match=r"write key=value|not valid YAML"):
            read_options([wrong])
    with pytest.raises(ConfigError, match=r"'a\.b=2': write key=value"):
        read_options(["a=1", "a.b=2"])
