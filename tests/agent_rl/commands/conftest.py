"""Command lines in this process (a new one would load torch for seconds), and games for them."""

import io
import sys
from pathlib import Path

import pytest

from agent_rl import cli
from agent_rl.display import console
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from tests.builders.command_line import CommandLine, Ended


@pytest.fixture
def command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CommandLine:
    """Runs a command line on a terminal of 160 columns."""

    def run(*arguments: object, typed: str = "") -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(console, "width", 160)
        monkeypatch.setattr(sys, "argv", ["agent-rl", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return Ended(status=int(end.value.code or 0), out=shown.out, err=shown.err)

    return run


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of four small games: three of `train`, one of `valid_seen`."""
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    small = {"receptacles": (3, 3), "objects": (3, 3), "copies": 1}
    settings = {"train": 3, "valid_seen": 1, "valid_unseen": 0, **small}
    generate_games(tmp_path / "data", GeneratorSettings.from_mapping(settings))
    return tmp_path / "data"
