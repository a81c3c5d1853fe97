"""TextWorld's generator: files, seeds, the cache, the settings."""

from pathlib import Path
from typing import Any

import pytest

from envs import make_env
from envs.worlds.textworld_generator import GameSettings, compile_games, compiled_games
from tests.builders.textworld import SMALL

pytestmark = pytest.mark.process


def test_each_split_has_a_folder(games: Path) -> None:
    assert sorted(path.relative_to(games).as_posix() for path in games.rglob("*.*")) == [
        f"{split}/tw-treasure_hunter-{number:05d}.{kind}"
        for split, number in (("train", 0), ("train", 1), ("valid", 0))
        for kind in ("json", "z8")
    ]


@pytest.mark.parametrize("seed", [0, 2_148, 2**31 - 1])
def test_every_seed_that_is_accepted_makes_games(seed: int, tmp_path: Path) -> None:
    compile_games(
        tmp_path / "data",
        GameSettings.from_mapping({**SMALL, "train": 1, "valid": 0, "seed": seed}),
    )
    assert len(list((tmp_path / "data" / "train").glob("*.z8"))) == 1


def test_settings_make_their_games_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    settings = {**SMALL, "train": 1, "valid": 0}
    folder = compiled_games(GameSettings.from_mapping(settings))
    assert folder.parent == tmp_path / "textworld"
    stamp = folder.stat().st_mtime_ns
    env = make_env("textworld", games=settings)
    assert len(env.tasks("train")) == 1
    assert folder.stat().st_mtime_ns == stamp
    assert list(tmp_path.glob("textworld/.*")) == [], "no partial folder is left"
    with pytest.raises(ValueError, match="split: 'valid' has no game"):
        env.tasks("valid")


@pytest.mark.parametrize(
    ("challenge", "settings", "message"),
    [
        (
            "tw-coin_collector",
            {"lvl": 3},
            "games.settings.lvl: tw-coin_collector has none; did you mean 'level'",
        ),
        (
            "tw-coin_collector",
            {"level": 400},
            "games.settings: tw-coin_collector with .* Expected level to be within",
        ),
        (
            "tw-simple",
            {"goal": "long"},
            "games.settings.goal: 'long' is none of detailed, brief, none",
        ),
    ],
)
def test_settings_are_checked(
    challenge: str,
    settings: dict[str, Any],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        make_env("textworld", games={"challenge": challenge, "settings": settings}).tasks("train")
    assert list(tmp_path.glob("textworld/*")) == []
