"""Parsed games are kept by content, and a damaged cache costs only time."""

import json
import logging
import sqlite3
from pathlib import Path

import pytest

from envs.alfworld.engines import cache as alfworld_cache
from envs.alfworld.engines import game_file as alfworld_reader
from envs.alfworld.engines.cache import cache_file, load_game
from tests.builders.kitchen import kitchen, write_kitchen


@pytest.fixture(autouse=True)
def _cache_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    alfworld_cache._load.cache_clear()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each problem that is parsed."""
    done: list[str] = []
    read_problem = alfworld_reader.read_problem

    def counting(data: dict[str, str]) -> object:
        done.append(data["pddl_problem"])
        return read_problem(data)

    monkeypatch.setattr(alfworld_cache, "read_problem", counting)
    return done


def forget_what_is_in_memory() -> None:
    alfworld_cache._load.cache_clear()
    alfworld_cache._database(cache_file()).close()
    alfworld_cache._database.cache_clear()


def test_a_game_is_parsed_once_and_shared(tmp_path: Path, parsed: list[str]) -> None:
    path = write_kitchen(tmp_path)
    assert load_game(path) is load_game(path)
    forget_what_is_in_memory()
    again = load_game(path)
    assert len(parsed) == 1
    assert next(iter(again.receptacles)) == "countertop 1"


def test_the_content_counts_and_not_the_place(tmp_path: Path, parsed: list[str]) -> None:
    load_game(write_kitchen(tmp_path / "a"))
    load_game(write_kitchen(tmp_path / "b"))
    assert len(parsed) == 1
    changed = tmp_path / "a/train"
    path = next(changed.rglob("game.tw-pddl"))
    path.write_text(json.dumps({**kitchen(), "walkthrough": ["look"]}))
    assert load_game(path).walkthrough == ("look",)
    assert len(parsed) == 2


@pytest.mark.parametrize(
    "damage", [b"", b"nonsense" * 1000, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, parsed: list[str], caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    path = write_kitchen(tmp_path)
    load_game(path)
    forget_what_is_in_memory()
    cache_file().write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        load_game(path)
    assert len(parsed) == 2
    assert ("games.sqlite: damaged" in caplog.text) == (damage != b""), (
        "an empty file is an empty cache"
    )
    forget_what_is_in_memory()
    load_game(path)
    assert len(parsed) == 2, "the new cache is not used"


@pytest.mark.parametrize(
    "damage", ["substr(problem, 1, 50)", "CAST(replace(problem, 'count', 'cuont') AS BLOB)", "'x'"]
)
def test_a_damaged_entry_is_made_anew(
    tmp_path: Path, parsed: list[str], caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = write_kitchen(tmp_path)
    load_game(path)
    forget_what_is_in_memory()
    with sqlite3.connect(cache_file()) as database:
        database.execute(f"UPDATE problems SET problem = CAST({damage} AS BLOB)")
    load_game(path)
    assert "damaged (an entry is not what was written)" in caplog.text
    assert len(parsed) == 2


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text('{"pddl_domain": "half a ga')
    with pytest.raises(ValueError, match="not a usable ALFWorld game") as error:
        load_game(path)
    assert str(path) in str(error.value)


def test_a_cache_that_cannot_be_used_costs_only_time(
    tmp_path: Path, parsed: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    cache_file().mkdir(parents=True)
    for folder in ("a", "b"):
        path = write_kitchen(tmp_path / folder)
        assert load_game(path).start == "loc_bar_9"
    assert len(parsed) == 2
    assert caplog.text.count("AGENT_RL_CACHE names another folder") == 1
