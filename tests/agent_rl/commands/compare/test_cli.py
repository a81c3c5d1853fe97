"""The command `agent-rl compare`, in this process."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from agent_rl.commands.compare.cli import compare as compare_command
from agent_rl.config import ConfigError
from tests.builders.comparisons import (
    FAMILY,
    alfworld_games,
    rows_of,
    write_alfworld_run,
    write_evaluation,
)


def invoke(*arguments: Any) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(compare_command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.process
def test_the_command(sweep: Path, tmp_path: Path) -> None:
    shown = invoke(
        sweep,
        "--to",
        tmp_path / "to",
        "--split",
        "valid_seen",
        "--label",
        "G=gmpo-*",
        "--against",
        "G",
    )
    assert shown.exit_code == 0, shown.output
    page = (tmp_path / "to" / "comparison.md").read_text()
    assert page.startswith("# Comparison: G, grpo\n")
    assert rows_of(page, "Paired over all seeds, valid_seen")[0][0] == "grpo - G"
    assert f"written to {tmp_path / 'to'}: comparison.md" in shown.output
    assert "note: grpo-s1: unfinished: 5 of 8 rollout steps" in shown.output


def test_the_command_for_a_split_that_is_not_there(sweep: Path) -> None:
    refused = invoke(sweep, "--split", "valid_unseen")
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception).startswith(
        "--split valid_unseen: not in final.json, the final evaluation of gmpo-s0"
    )


@pytest.mark.process
def test_the_command_without_paired_tests(sweep: Path, tmp_path: Path) -> None:
    write_evaluation(sweep / "gmpo-s0/evaluations/final.json", alfworld_games("111111000"))
    refused = invoke(sweep, "--to", tmp_path / "to")
    assert isinstance(refused.exception, ConfigError)
    assert f"in one only, '{FAMILY}8' for example" in str(refused.exception)
    assert invoke(sweep, "--to", tmp_path / "to", "--unpaired").exit_code == 0
    assert "Paired" not in (tmp_path / "to" / "comparison.md").read_text()


@pytest.mark.parametrize("label", ["gmpo", "=x", "x="])
def test_a_label_is_a_name_and_a_glob(sweep: Path, label: str) -> None:
    refused = invoke(sweep, "--label", label)
    assert isinstance(refused.exception, ConfigError)
    assert "write NAME=GLOB" in str(refused.exception)


def test_references_need_alfworld(tmp_path: Path) -> None:
    write_alfworld_run(tmp_path / "run", "gmpo", 0, won="10", env="taxi")
    refused = invoke(tmp_path / "run", "--reference", "grpo-1.5b")
    assert "these runs are of taxi" in str(refused.exception)
