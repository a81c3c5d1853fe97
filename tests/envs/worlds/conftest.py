"""TextWorld games that several test modules play."""

from pathlib import Path

import pytest

from envs.worlds.textworld_generator import GameSettings, compile_games
from tests.builders.textworld import SMALL


@pytest.fixture(scope="session")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two games to train on and one held out."""
    folder = tmp_path_factory.mktemp("games") / "data"
    compile_games(folder, GameSettings.from_mapping(SMALL))
    return folder
