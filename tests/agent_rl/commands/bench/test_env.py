"""`agent-rl bench env`: both engines are timed on a game."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.bench import env
from tests.builders.command_line import CommandLine


@pytest.mark.process
def test_both_engines_are_timed(
    games: Path, command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "EPISODES", 1)
    monkeypatch.setattr(env, "STEPS", 2)
    options = ("--split", "valid_seen", "--games", "1", "--json", tmp_path / "b.json")
    ended = command_line("bench", "env", games, *options)
    assert ended.status == 0, ended.err
    record = json.loads((tmp_path / "b.json").read_text())
    assert len(record["games"]) == 1
    for engine in ("native", "textworld"):
        (cost,) = record["costs"][engine]
        assert record["median"][engine] == cost
        # A group holds a load too, but in milliseconds the machine's noise is larger.
        assert cost["group"] > 0
        assert cost["load"] > 0
    assert "group of 1 x 2, ms" in ended.out
