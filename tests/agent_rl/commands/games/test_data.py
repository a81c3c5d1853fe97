"""`agent-rl games` on data folders: output and exit status."""

from pathlib import Path

import pytest

from tests.builders.command_line import CommandLine


def test_doctor_names_faults_and_ways_out(games: Path, command_line: CommandLine) -> None:
    ended = command_line("games", "doctor", games)
    assert ended.status == 0, ended.err
    assert "train: not the published games" in ended.out
    assert "no faults found" in ended.out
    path = sorted((games).rglob("train/*/*/game.tw-pddl"))[0]
    path.write_text(path.read_text()[:1000])
    ended = command_line("games", "doctor", games)
    assert ended.status == 1
    assert "unreadable: 1 games; delete these files" in ended.out
    assert path.parent.name in ended.out


def test_doctor_wants_a_data_folder(tmp_path: Path, command_line: CommandLine) -> None:
    ended = command_line("games", "doctor", tmp_path)
    assert ended.status == 2
    assert "holds none of the folders train, valid_seen, valid_unseen" in ended.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train=[",), "'train=[': the value is not valid YAML"),
        (("train",), "'train': write key=value, for example"),
    ],
)
def test_settings_of_games_are_checked(
    settings: tuple[str, ...], message: str, tmp_path: Path, command_line: CommandLine
) -> None:
    ended = command_line("games", "generate", tmp_path / "games", *settings)
    assert ended.status == 2
    assert message in ended.err
