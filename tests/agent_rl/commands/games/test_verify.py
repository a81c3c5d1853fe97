"""`agent-rl games verify`: its table, its report and its exit status."""

import json
from pathlib import Path

import pytest

from tests.builders.command_line import CommandLine


@pytest.mark.process
def test_verify_compares_the_engines_in_several_processes(
    games: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    options = ("--split", "train", "--games", 2, "--turns", 5, "--processes", 1, "--json", report)
    ended = command_line("games", "verify", games, *options)
    assert ended.status == 0, ended.err
    families = json.loads(report.read_text())["families"]
    assert sum(tally["games"] for tally in families.values()) == 2
    assert sum(tally["transitions"] for tally in families.values()) > 10
    assert all(tally["mismatches"] == [] for tally in families.values())


@pytest.mark.process
def test_verify_fails_where_a_game_was_not_compared(games: Path, command_line: CommandLine) -> None:
    path = sorted((games).rglob("train/*/*/game.tw-pddl"))[0]
    game = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {**game, "pddl_problem": game["pddl_problem"].replace("(:init", "(:init (isWarm a)")}
        )
    )
    ended = command_line(
        "games", "verify", games, "--split", "train", "--turns", 2, "--processes", 1
    )
    assert ended.status == 1
    assert "not compared: " in ended.out
    assert "the fact (iswarm a): unknown predicate" in ended.out
