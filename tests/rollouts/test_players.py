from collections import Counter

import pytest

from rollouts.players import make_player, player_named
from tests.builders.number_env import NumberEnv

TASK = NumberEnv().tasks("train")[3]


def test_the_expert_follows_the_advice_until_there_is_none() -> None:
    player = make_player("expert", NumberEnv(), TASK, 0)
    assert player.choose("", {"expert_command": "guess 4"}) == "guess 4"
    assert player.choose("", {}) is None
    assert make_player("expert", NumberEnv(), TASK, 0).choose("", {"expert_command": ""}) is None


@pytest.mark.parametrize("info", [{}, {"expert_command": None}])
def test_an_environment_without_an_expert_is_told_what_to_do(info: dict[str, None]) -> None:
    """The same words for a warm start, an evaluation and a shown episode."""
    with pytest.raises(
        ValueError, match="has no expert, use random instead, or leave out the warm start"
    ):
        make_player("expert", NumberEnv(), TASK, 0).choose("", info)


def test_chance_takes_every_command_as_likely_and_by_its_seed() -> None:
    info = {"admissible_commands": ["a", "b", "c"]}

    def drawn(seed: int) -> list[str | None]:
        player = make_player("random", NumberEnv(), TASK, seed)
        return [player.choose("", info) for _ in range(300)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert set(Counter(drawn(1))) == {"a", "b", "c"}
    assert min(Counter(drawn(1)).values()) > 60


def test_chance_says_any_text_if_no_commands_are_listed() -> None:
    env = NumberEnv(list_commands=False)
    players = [make_player("random", env, TASK, seed) for seed in (1, 1, 2)]
    first, again, other = ([player.choose("", {}) for _ in range(5)] for player in players)
    assert first == again != other
    assert all(isinstance(text, str) and env.action_space.contains(text) for text in first)
    assert len(set(first)) == 5


def test_players_have_names_and_folders_have_paths() -> None:
    assert (player_named("expert"), player_named("random")) == ("expert", "random")
    assert player_named("./expert") is player_named(None) is None
