"""Runs `agent-rl play` in this process."""

from pathlib import Path

import pytest

from tests.builders.command_line import CommandLine
from tests.builders.play import Play


@pytest.fixture
def play(command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Plays in `tmp_path`; returns the output, or the error if `status` is not 0."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, typed: str = "", status: int = 0) -> str:
        ended = command_line("play", *arguments, typed=typed)
        assert ended.status == status, ended.err
        return ended.err if status else ended.out

    return run
