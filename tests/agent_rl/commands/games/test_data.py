"""What `agent-rl games` and `agent-rl bench games` print, and with which exit status."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl import cli
from envs.alfworld.generator.generate import GeneratorSettings, generate_games

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    small = {"receptacles": (3, 3), "objects": (3, 3), "copies": 1}
    generate_games(
        tmp_path / "data", GeneratorSettings.from_mapping({"train": 3, "valid_unseen": 0, **small})
    )
    return tmp_path / "data"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command line; its exit status, and what it printed."""

    def run_it(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["agent-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out + shown.err

    return run_it


def test_verify_compares_the_engines_in_processes_of_its_own(
    games: Path, run: Run, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    options = ("--split", "train", "--games", 2, "--turns", 5, "--processes", 1, "--json", report)
    status, shown = run("games", "verify", games, *options)
    assert status == 0, shown
    families = json.loads(report.read_text())["families"]
    assert sum(tally["games"] for tally in families.values()) == 2
    assert sum(tally["transitions"] for tally in families.values()) > 10
    assert all(tally["mismatches"] == [] for tally in families.values())


def test_verify_fails_where_a_game_was_not_compared(games: Path, run: Run) -> None:
    path = sorted((games).rglob("train/*/*/game.tw-pddl"))[0]
    game = json.loads(path.read_text())
    path.write_text(
        json.dumps(
            {**game, "pddl_problem": game["pddl_problem"].replace("(:init", "(:init (isWarm a)")}
        )
    )
    status, shown = run(
        "games", "verify", games, "--split", "train", "--turns", 2, "--processes", 1
    )
    assert status == 1
    assert "not compared: " in shown
    assert "the fact (iswarm a): unknown predicate" in shown


def test_doctor_names_faults_and_ways_out(games: Path, run: Run) -> None:
    status, shown = run("games", "doctor", games)
    assert status == 0, shown
    assert "train: not the published games" in shown
    assert "no faults found" in shown
    path = sorted((games).rglob("train/*/*/game.tw-pddl"))[0]
    path.write_text(path.read_text()[:1000])
    status, shown = run("games", "doctor", games)
    assert status == 1
    assert "unreadable: 1 games; delete these files" in shown
    assert path.parent.name in shown


def test_doctor_wants_a_data_folder(tmp_path: Path, run: Run) -> None:
    status, shown = run("games", "doctor", tmp_path)
    assert status == 2
    assert "holds none of the folders train, valid_seen, valid_unseen" in shown


def test_finding_and_parsing_are_timed(games: Path, run: Run, tmp_path: Path) -> None:
    status, shown = run("bench", "games", games, "--json", tmp_path / "b.json")
    assert status == 0, shown
    record = json.loads((tmp_path / "b.json").read_text())
    assert record["games"] == 3
    assert list(record["seconds"]) == ["index", "parse"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("train=[",), "'train=[': the value is not valid YAML"),
        (("train",), "'train': write key=value, for example"),
    ],
)
def test_settings_of_games_are_checked(
    settings: tuple[str, ...], message: str, tmp_path: Path, run: Run
) -> None:
    status, shown = run("games", "generate", tmp_path / "games", *settings)
    assert status == 2
    assert message in shown
