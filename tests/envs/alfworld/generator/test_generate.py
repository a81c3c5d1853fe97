import hashlib
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.data import GAME_FILE, index_games, resolve_data_folder
from envs.alfworld.generator.generate import (
    GeneratorSettings,
    cached_games,
    generate_games,
    scenes_of,
)
from envs.alfworld.generator.layouts import UNSEEN_SCENES
from envs.alfworld.names import FAMILIES, SPLITS

SETTINGS = GeneratorSettings(train=120, valid_seen=60, valid_unseen=24)


@pytest.fixture(autouse=True)
def _cache_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated") / "games"
    assert generate_games(root, SETTINGS) == {"train": 120, "valid_seen": 60, "valid_unseen": 24}
    return resolve_data_folder(str(root))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob(GAME_FILE))
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def problems(folder: Path, split: str) -> list[str]:
    """The problems less their names, which hold the trial."""
    texts = [
        json.loads(path.read_text())["pddl_problem"]
        for path in sorted((folder / split).rglob(GAME_FILE))
    ]
    return [text.partition("(:domain")[2] for text in texts]


def test_same_settings_same_bytes_other_seed_other_games(folder: Path, tmp_path: Path) -> None:
    generate_games(tmp_path / "again", SETTINGS)
    assert digests(tmp_path / "again" / "json_2.1.1") == digests(folder)
    generate_games(
        tmp_path / "other", GeneratorSettings(train=120, valid_seen=60, valid_unseen=24, seed=2)
    )
    other = resolve_data_folder(str(tmp_path / "other"))
    assert not set(problems(other, "train")) & set(problems(folder, "train"))


def test_families_are_balanced(folder: Path) -> None:
    for split, each in (("train", 20), ("valid_seen", 10), ("valid_unseen", 4)):
        assert Counter(game.family for game in index_games(folder, split)) == dict.fromkeys(
            FAMILIES, each
        )


def test_splits_are_disjoint_and_floor_plans_kept_apart(folder: Path) -> None:
    texts = [text for split in SPLITS for text in problems(folder, split)]
    assert len(set(texts)) == len(texts) == 204
    used = {s: {int(game.scene) for game in index_games(folder, s)} for s in SPLITS}
    assert len(used["train"]) > 30
    assert used["valid_unseen"] == set(UNSEEN_SCENES)
    assert not (used["train"] | used["valid_seen"]) & set(UNSEEN_SCENES)
    assert len(scenes_of("train")) == 116


def test_a_killed_generation_leaves_no_folder(tmp_path: Path) -> None:
    def kill(done: int, total: int) -> None:
        assert total == 204
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_games(tmp_path / "games", SETTINGS, kill)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="not empty"):
        generate_games(tmp_path, SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_cached_games_are_made_once() -> None:
    calls: list[int] = []
    small = GeneratorSettings(train=6, valid_seen=0, valid_unseen=0)
    folder = cached_games(small, lambda done, total: calls.append(done))
    assert calls == [1, 2, 3, 4, 5, 6]
    assert cached_games(small, lambda done, total: calls.append(done)) == folder
    assert len(calls) == 6
    assert cached_games(GeneratorSettings(train=7, valid_seen=0, valid_unseen=0)) != folder


def test_too_small_a_world_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envs.alfworld.generator.generate._DRAWS_PER_GAME", 1)
    with pytest.raises(
        ValueError,
        match=r"games.train: found only \d+ different .* ask for fewer games or for larger",
    ):
        generate_games(
            tmp_path / "games", GeneratorSettings(train=2000, receptacles=(3, 3), objects=(3, 3))
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trian": 3}, "games.trian: not known; did you mean 'train'"),
        ({"train": -1}, "games.train: -1"),
        ({"copies": 0}, "games.copies: 0"),
        ({"receptacles": [6, 4]}, r"games.receptacles: \[6, 4\]"),
        ({"objects": 5}, "games.objects: 5"),
        ({"families": ["pick_two_obj_and_plaec"]}, "did you mean 'pick_two_obj_and_place'"),
        ({"families": "all"}, "games.families: 'all' is not a list"),
    ],
)
def test_bad_settings_name_their_key(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorSettings.from_mapping(values)


def test_lists_from_a_config_file_are_taken() -> None:
    settings = GeneratorSettings.from_mapping(
        {"receptacles": [4, 5], "families": ["pick_two_obj_and_place"]}
    )
    assert settings.receptacles == (4, 5)
    assert settings.families == ("pick_two_obj_and_place",)


def test_chosen_floor_plans_are_those_of_train_and_valid_seen(tmp_path: Path) -> None:
    settings = GeneratorSettings(train=24, valid_seen=12, valid_unseen=6, scenes=(3, 305))
    generate_games(tmp_path / "games", settings)
    folder = resolve_data_folder(str(tmp_path / "games"))
    for split in ("train", "valid_seen"):
        assert {game.scene for game in index_games(folder, split)} == {"3", "305"}


def test_only_the_chosen_types_are_there(tmp_path: Path) -> None:
    things = {"Apple", "Mug", "Book", "DeskLamp"}
    furniture = {"CounterTop", "Fridge", "SinkBasin", "Desk", "Shelf", "Bed"}
    settings = GeneratorSettings(
        train=10,
        valid_seen=0,
        valid_unseen=0,
        receptacles=(3, 3),
        objects=(3, 3),
        families=("pick_and_place_simple", "look_at_obj_in_light"),
        scenes=(3, 305),
        object_types=tuple(things),
        receptacle_types=tuple(furniture),
    )
    generate_games(tmp_path / "games", settings)
    folder = resolve_data_folder(str(tmp_path / "games"))
    text = "".join(problems(folder, "train"))
    assert set(re.findall(r"objectType \S+ (\w+)Type", text)) == things
    assert set(re.findall(r"receptacleType \S+ (\w+)Type", text)) == furniture


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scenes": (10,)}, "10 is not a floor plan to train on"),
        (
            {"scenes": (3,)},
            r"games.train: look_at_obj_in_light is not possible on any of its floor plans",
        ),
        ({"object_types": ("Apple",)}, r"games.train: look_at_obj_in_light is not possible"),
        (
            {"object_types": ("Aple",)},
            r"games.object_types: 'Aple' is not known; did you mean 'Apple'",
        ),
        (
            {"receptacle_types": ("Sink",)},
            r"games.receptacle_types: 'Sink' is not known; did you mean 'SinkBasin'",
        ),
    ],
)
def test_worlds_that_cannot_serve_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratorSettings(**values)
