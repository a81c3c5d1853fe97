from importlib.util import find_spec
from pathlib import Path

import pytest

from agent_rl.commands.export import parquet
from agent_rl.commands.export.chosen_episodes import StoredEpisode
from agent_rl.config import ConfigError
from tests.builders.stored_runs import LOOK, lost, won

STORED = [
    StoredEpisode(id=f"3/1/{member}", step=3, trajectory=episode)
    for member, episode in enumerate((won(LOOK), lost(LOOK)), start=1)
]


def test_a_row_has_the_tokens_that_the_policy_read_and_wrote() -> None:
    row = parquet.episode_row(STORED[0], run="demo", system="")
    assert row["token_ids"] == [1, 5, 7, 2, 6, 8, 9, 2]
    assert [int(bit) for bit in row["action_mask"]] == [0, 0, 1, 1, 0, 1, 1, 1]
    assert row["logprobs"] == [0.0, 0.0, -0.5, -0.5, 0.0, -0.5, -0.5, -0.5]
    assert (row["part_lengths"], row["rewards"]) == ([8], [0.0, 1.0])
    assert (row["step"], row["turns"], row["invalid_actions"]) == (3, 2, 1)


def test_without_pyarrow_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="`pip install pyarrow`"):
        parquet.require_pyarrow()


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="an optional extra")
def test_the_file_is_read_back(tmp_path: Path) -> None:
    from pyarrow import parquet as reader

    path = tmp_path / "e.parquet"
    parquet.write_parquet(path, STORED, run="demo", system="Be brief.")
    rows = reader.read_table(path).to_pylist()
    assert [row["id"] for row in rows] == ["3/1/1", "3/1/2"]
    assert rows[0]["token_ids"] == [1, 5, 7, 2, 6, 8, 9, 2]
    assert rows[0]["messages"][0] == {"role": "system", "content": "Be brief.", "weight": None}
    assert rows[1]["success"] is False
