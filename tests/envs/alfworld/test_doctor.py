import json
from collections import Counter
from pathlib import Path

import pytest

from envs.alfworld import doctor
from envs.alfworld.data import DATA_VERSION
from envs.alfworld.doctor import examine
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from envs.alfworld.names import FAMILIES


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    generate_games(
        tmp_path / "games", GeneratorSettings(train=6, valid_seen=6, valid_unseen=0, seed=2)
    )
    return tmp_path / "games" / DATA_VERSION


def game_files(folder: Path) -> list[Path]:
    return sorted((folder / "train").rglob("game.tw-pddl"))


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_sound_folder_is_counted_and_has_no_complaint(folder: Path) -> None:
    seen: list[str] = []
    diagnosis = examine(folder, seen.append)
    assert diagnosis.counts["train"] == diagnosis.counts["valid_seen"] == Counter(FAMILIES)
    assert set(diagnosis.counts) == {"train", "valid_seen"}
    assert not diagnosis.complaints
    assert diagnosis.healthy
    assert len(seen) == 12
    assert diagnosis.differs_from_published("train"), "six games are not the published 3,553"


def test_each_fault_is_told_apart(folder: Path) -> None:
    cut, missing, unsolvable, old, unwinnable, refused = game_files(folder)
    strange = folder / "train" / "juggle-Mug" / "trial_1" / "game.tw-pddl"
    strange.parent.mkdir(parents=True)
    strange.write_text(cut.read_text())
    (folder / "train" / ".checkpoints" / "x").mkdir(parents=True)
    cut.write_text(cut.read_text()[:5000])
    missing.unlink()
    change(unsolvable, solvable=False)
    grammar = json.loads(old.read_text())["grammar"].replace("move {o} to {r}", "put {o} in/on {r}")
    change(old, grammar=grammar)
    change(unwinnable, walkthrough=["look"])
    problem = json.loads(refused.read_text())["pddl_problem"].replace(
        "(:init", "(:init (isWarm agent1)"
    )
    change(refused, pddl_problem=problem)
    diagnosis = examine(folder)
    named = {complaint: list(games) for complaint, games in diagnosis.complaints.items()}

    def name(path: Path) -> list[str]:
        return [str(path.parent.relative_to(folder))]

    assert named == {
        doctor.STRANGE: name(strange),
        doctor.UNREADABLE: name(cut),
        doctor.MISSING: name(missing),
        doctor.UNSOLVABLE: name(unsolvable),
        doctor.OLD_GRAMMAR: name(old),
        doctor.LOST: name(unwinnable),
        doctor.REFUSED: name(refused),
    }
    assert set(named) == set(doctor.WAYS_OUT), "a complaint without a way out"
    assert not diagnosis.healthy
    assert diagnosis.counts["train"].total() == 1, (
        "only the one that the native engine refuses can be played still"
    )


def test_games_that_are_set_aside_on_purpose_are_no_fault(folder: Path) -> None:
    change(game_files(folder)[0], solvable=False)
    assert examine(folder).healthy


def test_a_folder_without_games_is_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    assert not examine(tmp_path).healthy
