import json
import os
from pathlib import Path

import pytest

from envs.alfworld import data as index
from envs.files import cache_root

GAME = {
    "pddl_domain": "d",
    "grammar": "g",
    "pddl_problem": "p",
    "solvable": True,
    "walkthrough": [],
}
MUG = "pick_and_place_simple-Mug-None-Desk-301/trial_1"
PEN = "look_at_obj_in_light-Pen-None-DeskLamp-301/trial_1"


@pytest.fixture(autouse=True)
def _cache_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / index.DATA_VERSION
    put(folder, MUG)
    put(folder, PEN)
    return folder


def put(folder: Path, game_id: str, **changes: object) -> Path:
    path = folder / "train" / game_id / index.GAME_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**GAME, **changes}))
    return path


def ids(data: Path) -> list[str]:
    return [game.id for game in index.index_games(data, "train")]


def test_finds_games_in_order_with_what_they_are(data: Path) -> None:
    put(data, MUG, walkthrough=["look", "help"])
    pen, mug = index.index_games(data, "train")
    assert (pen.id, pen.family, pen.scene, pen.commands) == (PEN, "look_at_obj_in_light", "301", 0)
    assert (mug.id, mug.family, mug.scene, mug.commands) == (MUG, "pick_and_place_simple", "301", 2)


def test_a_walkthrough_that_is_no_list_is_named(data: Path) -> None:
    path = put(data, MUG, walkthrough=7)
    with pytest.raises(ValueError, match=rf"^{path}: .*walkthrough: 7 is no list of commands"):
        ids(data)


def test_the_root_may_be_the_versioned_folder_or_its_parent(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(data.parent))
    assert index.resolve_data_folder(str(data)) == data
    assert index.resolve_data_folder("$ALFWORLD_DATA") == data
    assert index.resolve_data_folder("${ALFWORLD_DATA}/json_2.1.1") == data


def test_games_that_do_not_count(data: Path) -> None:
    put(data, "pick_and_place_with_movable_recep-Pen-Mug-Desk-301/trial_1")
    put(data, "pick_and_place_simple-AppleSliced-None-Desk-301/trial_1")
    put(data, "pick_and_place_simple-Mug-None-Desk-301/trial_2", solvable=False)
    assert ids(data) == [PEN, MUG]


def test_cache_is_used_and_follows_changes(data: Path) -> None:
    assert len(ids(data)) == 2
    path = data / "train" / MUG / index.GAME_FILE
    before = path.stat()
    path.write_text("x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(ids(data)) == 2, "a file of the same size and time was read again"
    put(data, MUG, solvable=False)
    assert ids(data) == [PEN]
    path.unlink()
    put(data, "pick_two_obj_and_place-Pen-None-Desk-301/trial_7")
    assert len(ids(data)) == 2


@pytest.mark.parametrize("damage", ["", '{"a', "[1, 2]", f'{{"{MUG}": [1]}}'])
def test_a_damaged_cache_is_made_again(data: Path, damage: str) -> None:
    games = index.index_games(data, "train")
    (cache,) = (cache_root() / "index").iterdir()
    whole = cache.read_text()
    cache.write_text(damage)
    assert index.index_games(data, "train") == games
    assert cache.read_text() == whole


def test_a_file_cut_in_half_is_named(data: Path) -> None:
    path = data / "train" / MUG / index.GAME_FILE
    path.write_text(path.read_text()[:40])
    with pytest.raises(ValueError, match="delete it, or download or generate it again") as error:
        index.index_games(data, "train")
    assert str(path) in str(error.value)


def test_a_game_without_a_problem_is_named(data: Path) -> None:
    path = put(data, MUG, pddl_problem=None)
    with pytest.raises(ValueError, match="no text under pddl_problem"):
        index.read_game(path)


def test_folders_without_games_do_not_disturb(data: Path) -> None:
    (data / "train" / ".ipynb_checkpoints" / "x").mkdir(parents=True)
    assert ids(data) == [PEN, MUG]


def test_an_unknown_family_is_not_skipped_in_silence(data: Path) -> None:
    put(data, "juggle-Mug-None-Desk-301/trial_1")
    with pytest.raises(ValueError, match="juggle-Mug"):
        index.index_games(data, "train")


def test_missing_data_says_the_way_out(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    with pytest.raises(
        ValueError, match=r"ALFWORLD_DATA is not set; generate games \(`agent-rl games generate`\)"
    ):
        index.resolve_data_folder("$ALFWORLD_DATA")
    monkeypatch.setenv("ALFWORLD_DATA", "")
    with pytest.raises(ValueError, match="ALFWORLD_DATA is empty; generate"):
        index.resolve_data_folder("$ALFWORLD_DATA")
    with pytest.raises(ValueError, match="is empty; generate"):
        index.resolve_data_folder(" ")
    with pytest.raises(ValueError, match="is not a folder; generate"):
        index.resolve_data_folder(str(data / "nowhere"))
    with pytest.raises(ValueError, match=r"no solvable game under .*valid_seen.*; generate"):
        index.index_games(data, "valid_seen")
    with pytest.raises(ValueError, match="'test' is none of train, valid_seen, valid_unseen"):
        index.index_games(data, "test")


@pytest.mark.parametrize(
    "game_id", ["../train/x", MUG + "/..", "pick_and_place_simple-Mug-None-Desk-301", "a/b"]
)
def test_an_unknown_game_is_refused(data: Path, game_id: str) -> None:
    assert index.game_path(data, "train", MUG).is_file()
    with pytest.raises(ValueError, match="no game"):
        index.game_path(data, "train", game_id)
