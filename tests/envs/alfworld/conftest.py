"""The games that several test files play."""

from collections.abc import Iterator

import pytest

from envs.alfworld.generator.generate import GeneratorSettings, generate_games

SETTINGS = GeneratorSettings(train=12, valid_seen=6, valid_unseen=6, seed=7)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with 12 + 6 + 6 generated games, and a cache for them."""
    root = tmp_path_factory.mktemp("alfworld")
    generate_games(root / "games", SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_RL_CACHE", str(root / "cache"))
        yield str(root / "games")
