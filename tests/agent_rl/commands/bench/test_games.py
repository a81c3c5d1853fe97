"""`agent-rl bench games`: the parts that are timed."""

import json
from pathlib import Path

from tests.builders.command_line import CommandLine


def test_finding_and_parsing_are_timed(
    games: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    ended = command_line("bench", "games", games, "--json", tmp_path / "b.json")
    assert ended.status == 0, ended.err
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["games"] == 3
    assert list(record["seconds"]) == ["index", "parse"]
