"""docs/environments.md: its environment keeps the contract, its commands are real, its table is
whole.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from agent_rl.cli import app
from agent_rl.config import load_config, read_options
from envs import check_env, make_env
from envs.registry import BUILT_IN, takes_option
from tests.builders.paths import ROOT

TEXT = (ROOT / "docs" / "environments.md").read_text()
COMMANDS = re.findall(r"^agent-rl (.*)$", TEXT, re.MULTILINE)
NAMED = sorted({name.removesuffix(" ID") for name in re.findall(r"`agent-rl ([^`]*)`", TEXT)})


@pytest.fixture(scope="module")
def code() -> str:
    [block] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    return str(block)


@pytest.fixture
def _reader(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with door.py and the configs, as a reader of the page does."""
    (tmp_path / "door.py").write_text(code)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def command(words: list[str]) -> Any:
    """The command of that name."""
    found: Any = typer.main.get_command(app)
    for word in words:
        assert word in found.commands, (
            f"agent-rl {' '.join(words)}: there is {', '.join(found.commands)}"
        )
        found = found.commands[word]
    return found


@pytest.mark.usefixtures("_reader")
def test_its_environment_keeps_the_contract(code: str) -> None:
    assert len(code.splitlines()) <= 40
    for expert in (False, True):
        report = check_env(lambda expert=expert: make_env("door:Door", expert=expert))  # type: ignore[misc]
        assert {check.sentence for check in report.checks if check.name == "endings"} != {""}


@pytest.mark.usefixtures("_reader")
@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_are_real(line: str) -> None:
    words = shlex.split(line)
    name = words[: 2 if words[0] == "envs" else 1]
    told = command(name).make_context(name[-1], words[len(name) :]).params
    if "config" in told:
        config = load_config(told["config"], told["overrides"])
        env_id, options = config.env.id, config.env.options
    else:
        env_id, options = told["env_id"], read_options(told["options"] or [])
    make_env(env_id, **options).close()
    assert takes_option(env_id, "expert"), "the page starts warm"


def test_what_it_names_is_there() -> None:
    assert {"envs list", "envs check", "sft"} <= set(NAMED)
    assert {shlex.split(line)[0] for line in COMMANDS} == {"envs", "init", "sft", "train"}
    for name in NAMED:
        command(name.split())


@pytest.mark.parametrize(
    ("env_id", "settings"),
    [
        ("textworld", "env.options.games.train=200"),
        (
            "textworld",
            "env.options.games.challenge=tw-cooking "
            "'env.options.games.settings={recipe: 2, take: 1}'",
        ),
        ("FrozenLake-v1", "'env.options.commands=[left, down, right, up]'"),
    ],
)
def test_its_settings_are_real(env_id: str, settings: str) -> None:
    assert f"`{settings}`" in TEXT
    config = load_config(
        ROOT / "configs" / "world.yaml", [f"env.id={env_id}", *shlex.split(settings)]
    )
    make_env(env_id, **config.env.options).close()


def test_its_policy_has_the_layers_of_the_demos() -> None:
    world, demo = (
        load_config(ROOT / "configs" / f"{name}.yaml").model for name in ("world", "demo")
    )
    embeddings = {key: getattr(demo, key) for key in ("vocab_size", "tokens_within", "tied")}
    assert world.model_copy(update=embeddings) == demo


def test_all_that_ships_is_in_the_table() -> None:
    for name in BUILT_IN:
        assert f"| `{name}` |" in TEXT, name
