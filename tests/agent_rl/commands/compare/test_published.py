"""The published rows of ALFWorld: whole, and found by name."""

import pytest

from agent_rl.commands.compare.published import Published, all_published, caveat, published
from agent_rl.config import ConfigError
from envs.alfworld.names import FAMILIES

# The games of each family in the official valid_seen, in the order of FAMILIES.
SEEN_GAMES = (35, 13, 27, 16, 25, 24)


def test_rows_are_of_all_families_or_of_none() -> None:
    assert {len(row.families) for row in all_published()} == {0, len(FAMILIES)}
    assert len({row.name for row in all_published()}) == len(all_published())
    assert all(row.source for row in all_published())


@pytest.mark.parametrize(
    "row", [row for row in all_published() if row.families], ids=lambda row: row.name
)
def test_families_are_in_the_order_of_their_names(row: Published) -> None:
    # The mean over families, weighted by games, is near the number for all games. It differs a
    # little, because the published evaluations play 128 of the 140 games.
    assert row.seen is not None
    total = sum(games * success for games, success in zip(SEEN_GAMES, row.families, strict=True))
    assert total / sum(SEEN_GAMES) == pytest.approx(row.seen[0], abs=3.0)


def test_the_caveat_stands_on_one_line() -> None:
    assert caveat().startswith("Published rows are no controls for these runs: ")
    assert "\n" not in caveat()


def test_cells() -> None:
    (row, other) = published(["grpo-1.5b", "gmpo-1.5b"], "alfworld")
    assert row.cell("valid_seen", None) == "72.8"
    assert row.cell("valid_unseen", None) == "70.1 - 71.1"
    assert row.cell("valid_seen", "look_at_obj_in_light") == "53.7"
    assert row.cell("valid_unseen", "look_at_obj_in_light") == ""
    assert row.cell("valid_seen", "another") == ""
    assert row.cell("test", None) == ""
    assert other.cell("valid_unseen", None) == ""


def test_names_that_are_not_there() -> None:
    with pytest.raises(
        ConfigError, match=r"--reference grpo-1\.5: no such row; did you mean 'grpo-1\.5b'\?"
    ):
        published(["grpo-1.5"], "alfworld")
    with pytest.raises(ConfigError, match="no such row; there are: grpo-1"):
        published(["x"], "alfworld")


def test_other_worlds_have_no_published_rows() -> None:
    assert published([], "taxi") == []
    with pytest.raises(
        ConfigError, match="the published rows are ALFWorld's, and these runs are of taxi"
    ):
        published(["grpo-1.5b"], "taxi")
