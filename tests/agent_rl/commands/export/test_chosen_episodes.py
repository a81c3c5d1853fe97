from pathlib import Path

import pytest

from agent_rl.commands.export.chosen_episodes import (
    Choice,
    Seen,
    Stage,
    chosen_episodes,
    names_of,
    read_steps,
    run_config,
)
from agent_rl.config import ConfigError
from agent_rl.runs.layout import RunLayout
from tests.builders.stored_runs import stored_run


def test_steps_are_read_as_they_are_written() -> None:
    assert read_steps("") == ()
    assert read_steps("1, 5-10") == ((1, 1), (5, 10))
    for wrong in ("a", "3-1", "1-", "-1"):
        with pytest.raises(ConfigError, match="write a step, a range or several"):
            read_steps(wrong)
    assert names_of("look, pick,") == ("look", "pick")


@pytest.mark.parametrize(
    ("stage", "choice", "ids"),
    [
        ("train", Choice(), "1/1/1 1/1/2 1/2/1 1/2/2 2/1/1 2/1/2 2/2/1 2/2/2"),
        ("train", Choice(steps=((2, 9),), families=("pick",)), "2/2/1 2/2/2"),
        ("train", Choice(success=True), "1/1/1 1/2/1 2/1/1 2/2/1"),
        ("train", Choice(success=False, families=("look",)), "1/1/2 2/1/2"),
        ("sft", Choice(), "sft/1"),
        ("evaluations", Choice(splits=("valid_seen",)), "step-000002-valid_seen/1/1"),
    ],
)
def test_filters(tmp_path: Path, stage: Stage, choice: Choice, ids: str) -> None:
    seen = Seen()
    chosen = [e.id for e in chosen_episodes(stored_run(tmp_path / "r"), stage, choice, seen)]
    assert chosen == ids.split()
    assert seen.chosen == len(chosen)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (Choice(families=("lok",)), "--family lok: is none of look, pick; did you mean 'look'"),
        (Choice(splits=("test",)), "--split test: is none of train"),
        (Choice(steps=((7, 8),)), "no episodes of stage 'train' there; there are steps 1 to 2"),
        (Choice(splits=("train",), success=True, families=("look",), steps=((1, 1),)), ""),
    ],
)
def test_an_empty_choice_is_told_with_what_there_is(
    tmp_path: Path, choice: Choice, message: str
) -> None:
    found = chosen_episodes(stored_run(tmp_path / "r"), "train", choice, Seen())
    if message:
        with pytest.raises(ConfigError, match=message):
            list(found)
    else:
        assert len(list(found)) == 1


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder with a stage 'train'"):
        run_config(RunLayout(tmp_path), "train")
