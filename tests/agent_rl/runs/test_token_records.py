from pathlib import Path

import numpy as np
import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.token_records import (
    COLUMNS,
    SampleTokens,
    load_token_records,
    numbers_of_turns,
    write_token_records,
)
from tests.builders.episodes import trajectory, turn


def numbers_of(first: float, tokens: int, member: int, *, part: int = 1) -> SampleTokens:
    """Tokens whose log-ratios are `first`, `first` + 1, ..."""
    numbers = {name: np.zeros(tokens, dtype=kind) for name, kind in COLUMNS.items()}
    numbers["log_ratio"] = first + np.arange(tokens, dtype=np.float64)
    return SampleTokens(id=EpisodeId(7, 2, member), part=part, optimizer_step=part, numbers=numbers)


def test_each_part_is_read_back_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "step-000007.tokens.npz"
    write_token_records(
        path, [numbers_of(1, 2, 1), numbers_of(3, 1, 3), numbers_of(4, 3, 3, part=2)]
    )
    read = load_token_records(path, 7)
    assert [*read] == [EpisodeId(7, 2, 1), EpisodeId(7, 2, 3)]
    assert [s.numbers["log_ratio"].tolist() for s in read[EpisodeId(7, 2, 3)]] == [[3], [4, 5, 6]]
    assert [s.optimizer_step for s in read[EpisodeId(7, 2, 3)]] == [1, 2]
    assert read[EpisodeId(7, 2, 1)][0].numbers["left_out"].dtype == np.bool_
    assert [*tmp_path.iterdir()] == [path]


def test_a_step_that_trained_nothing_has_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "step-000007.tokens.npz"
    write_token_records(path, [])
    assert load_token_records(path, 7) == {}


def test_a_missing_or_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "step-000007.tokens.npz"
    with pytest.raises(ConfigError, match=r"no such file; train\.keep_token_records"):
        load_token_records(path, 7)
    write_token_records(path, [numbers_of(1, 200, 1)])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="damaged"):
            load_token_records(path, 7)


def test_numbers_are_cut_into_turns_part_by_part() -> None:
    # Two parts: turns of one and two tokens, then one of three.
    path, last = Path("records"), turn(ids=(3, 3, 2), new_prompt=True)
    episode = trajectory(turn(ids=(2,)), turn(ids=(3, 2)), last)
    first, second = numbers_of(1, 3, 1), numbers_of(7, 3, 1, part=2)
    found = numbers_of_turns(episode, [second, first], path)
    cut = [None if numbers is None else numbers["log_ratio"].tolist() for numbers in found]
    assert cut == [[1], [2, 3], [7, 8, 9]]
    assert numbers_of_turns(episode, [first], path)[2] is None
    assert numbers_of_turns(episode, [], path) == (None, None, None)
    with pytest.raises(ConfigError, match="has 2 tokens of 7/2/1, which has 3"):
        numbers_of_turns(episode, [numbers_of(1, 2, 1)], path)
