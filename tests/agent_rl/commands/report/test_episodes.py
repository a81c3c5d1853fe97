"""The index of episodes, their advantages, and which of them a page holds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent_rl.commands.explain.explanation import explanation_of
from agent_rl.commands.report.chunks import unpacked
from agent_rl.commands.report.episodes import (
    COLUMNS,
    EpisodeReader,
    RunPages,
    evaluation_pages,
    share_that_fits,
    step_pages,
)
from agent_rl.config import Config, load_run_config
from agent_rl.evaluation.episodes import repeat_file
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import RunLayout, StageLayout
from agent_rl.runs.trajectories import write_trajectories
from envs import Task
from rollouts import StopReason
from tests.builders.episodes import trajectory, turn
from tests.builders.reports import real_episodes, write_episodes, write_evaluation
from tests.builders.scripted_session import run_with_records

LOST = StopReason.MAX_TURNS


def config(**sections: Any) -> Config:
    return Config(run_folder="", **sections)


def write_groups(path: Path) -> Path:
    """Three groups: one won and one lost; both won; one won and one that failed."""
    episodes = []
    for name, second in (("a", LOST), ("b", StopReason.SUCCESS), ("c", StopReason.ENV_ERROR)):
        task = Task(env_id="e", split="s", family=f"f{name}", id=name)
        episodes.append(trajectory(turn(reward=1.0), task=task))
        reward = 1.0 if second is StopReason.SUCCESS else 0.0
        episodes.append(trajectory(turn(reward=reward), task=task, stop_reason=second))
    write_trajectories(path, episodes)
    return path


def ignore(name: str) -> None:
    """Takes the name of a file that was read."""


def columns(rows: Any) -> dict[str, list[Any]]:
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


def test_the_index_of_a_step(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "step-000004.jsonl.gz")
    pages = step_pages(path, 4, config(learner={"objective": "gmpo", "advantage": "group_mean"}))
    index = columns(pages.rows)
    assert index["id"] == ["4/1/1", "4/1/2", "4/2/1", "4/2/2", "4/3/1", "4/3/2"]
    assert index["return"] == [1.0, 0.0, 1.0, 1.0, 1.0, 0.0]
    # The mean of the first group is a half; of the third, one episode counts, and it is the mean.
    assert index["advantage"] == [0.5, -0.5, 0.0, 0.0, 0.0, None]
    zero = "advantage 0"
    assert index["training"] == ["trained", "trained", zero, zero, zero, "not scored"]
    assert (index["chunk"], index["place"]) == ([0] * 6, list(range(6)))
    assert pages.families == {"fa": (1, 2), "fb": (2, 2), "fc": (1, 1)}
    assert pages.token_ids == {1, 2, 3}
    held = unpacked(pages.chunks[0])["episodes"]
    assert [episode["turns"][0].get("a") for episode in held] == index["advantage"]
    # An advantage of 0 has no gradient: such an episode did not go through the learner.
    assert ["g" in episode["turns"][0] for episode in held] == [True] * 2 + [False] * 4
    bonus = config(learner={"entropy_bonus": 0.1})
    held = unpacked(step_pages(path, 4, bonus).chunks[0])["episodes"]
    assert ["g" in episode["turns"][0] for episode in held] == [True] * 5 + [False]


def test_a_dropped_group_has_no_advantages(tmp_path: Path) -> None:
    path = write_groups(tmp_path / "step-000001.jsonl.gz")
    pages = step_pages(path, 1, config(train={"drop_groups": ["all_succeed"]}))
    assert columns(pages.rows)["training"][2:4] == ["group dropped", "group dropped"]
    assert columns(pages.rows)["advantage"][2:4] == [None, None]


@pytest.mark.parametrize(
    ("share", "groups"), [(1.0, [1, 2, 3]), (0.5, [1, 3]), (0.34, [1]), (0.01, [1])]
)
def test_sampled_groups_are_whole(tmp_path: Path, share: float, groups: list[int]) -> None:
    path = write_groups(tmp_path / "step-000001.jsonl.gz")
    pages = step_pages(path, 1, config(), share=share)
    ids = [f"1/{group}/{member}" for group in groups for member in (1, 2)]
    assert columns(pages.rows)["id"] == ids
    assert (pages.played, pages.families["fb"]) == (6, (2, 2))


def test_the_share_that_fits(tmp_path: Path) -> None:
    write_episodes(tmp_path, steps=2)
    stage = RunLayout(tmp_path).train
    size = sum(map(len, step_pages(stage.step_episodes(2), 2, config()).chunks))
    assert share_that_fits([(stage, config())], 2 * size / 1e6) == pytest.approx(1.0)
    assert share_that_fits([(stage, config())], size / 1e6) == pytest.approx(0.5)
    assert share_that_fits([(StageLayout(tmp_path / "none"), config())], 0.0) == 1.0


def test_a_damaged_file_is_a_note(tmp_path: Path) -> None:
    write_episodes(tmp_path, steps=2)
    stage = RunLayout(tmp_path).train
    path = stage.step_episodes(1)
    path.write_bytes(path.read_bytes()[:100])
    names: list[str] = []
    pages = EpisodeReader().read(stage, config(), share=1.0, done=names.append)
    assert (list(pages.steps), pages.played, pages.shown) == ([2], 18, 18)
    assert "damaged" in pages.notes[0]
    assert names == ["step-000001.jsonl.gz", "step-000002.jsonl.gz"]


def test_the_index_of_an_evaluation(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path)
    pages = evaluation_pages(folder)
    index = columns(pages.rows)
    lines = [(1, 1), (2, 3), (1, 2), (2, 2), (1, 3), (2, 1)]
    assert index["id"] == [f"{folder.name}/{repeat}/{line}" for repeat, line in lines]
    assert [task == index["task"][0] for task in index["task"]] == [True] * 2 + [False] * 4
    assert (set(index["source"]), set(index["step"])) == ({folder.name}, {2})
    assert (set(index["advantage"]), set(index["training"])) == ({None}, {"evaluated"})
    assert (index["chunk"], index["place"]) == ([0] * 6, list(range(6)))
    assert not {"a", "g"} & unpacked(pages.chunks[0])["episodes"][0]["turns"][0].keys()
    half = evaluation_pages(folder, share=0.5)
    assert (half.played, columns(half.rows)["id"]) == (6, [index["id"][i] for i in (0, 1, 4, 5)])
    # A policy that is no checkpoint of a run has no step.
    folder = write_evaluation(tmp_path, "sft-valid_seen-t0.4-1f3a9c2e")
    assert set(columns(evaluation_pages(folder).rows)["step"]) == {None}


def test_evaluations_of_a_run_are_read_beside_its_training(tmp_path: Path) -> None:
    write_episodes(tmp_path, steps=1)
    folder, run = write_evaluation(tmp_path), RunLayout(tmp_path)
    torn = write_evaluation(tmp_path, "sft-valid_seen-t0.4-0a1b2c3d")
    reader = EpisodeReader()

    def read() -> RunPages:
        return reader.read(run.train, config(), evaluations=run.evaluations, share=1.0, done=ignore)

    first = read()
    assert (first.played, list(first.evaluations)) == (30, [torn.name, folder.name])
    # Another repeat is read, and only that evaluation anew.
    write_trajectories(repeat_file(folder, 2), real_episodes()[2::6])
    with repeat_file(torn, 0).open("a") as file:
        file.write('{"task":')
    second = read()
    assert (second.played, list(second.evaluations)) == (27, [folder.name])
    assert second.steps[1] is first.steps[1]
    assert "not a whole line of JSON" in second.notes[0]
    # They count in what fits: these are as large as nine of the 18 episodes of a step.
    sizes = [sum(map(len, pages.chunks)) for pages in second.all]
    share = share_that_fits([(run.train, config())], sizes[0] / 1e6, [run.evaluations])
    assert 0.5 < share < 0.8


def test_a_step_is_read_once(tmp_path: Path) -> None:
    write_episodes(tmp_path, steps=1)
    reader, stage = EpisodeReader(), RunLayout(tmp_path).train
    first = reader.read(stage, config(), share=1.0, done=ignore).steps[1]
    assert reader.read(stage, config(), share=1.0, done=ignore).steps[1] is first


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> StageLayout:
    """The training of a run with a real learner."""
    folder = tmp_path_factory.mktemp("recorded")
    run_with_records(folder)
    return RunLayout(folder).train


def test_the_numbers_of_tokens_are_those_of_explain(recorded: StageLayout) -> None:
    path, records = recorded.step_episodes(2), recorded.token_records(2)
    run_settings = load_run_config(recorded.config_file)
    pages = step_pages(path, 2, run_settings, records=records)
    assert pages.note == ""
    held = unpacked(pages.chunks[0])["episodes"]
    clips = 0
    for member, episode in enumerate(held, start=1):
        told = explanation_of(recorded.folder.parent, EpisodeId(2, 1, member))
        (shown,), (numbers,) = episode["turns"], told.turn_numbers
        assert numbers is not None
        assert shown["g"] == 1
        assert shown["a"] == pytest.approx(told.advantages[0], rel=1e-3)
        ratio = np.exp(numbers["log_ratio"].astype(np.float64))
        for name, values, form in (
            ("ratio", ratio, ".4f"),
            ("weight", numbers["weight"], ".4f"),
            ("entropy", numbers["entropy"], ".4f"),
            ("mismatch", numbers["mismatch"], ".3g"),
            ("share", numbers["share"], ".3g"),
            ("clipped", numbers["clipped"], ""),
        ):
            stored = shown["t"].get(name, 0)
            in_page = stored if isinstance(stored, list) else [stored] * len(values)
            assert in_page == [float(format(value, form)) for value in values.tolist()], name
        clips += int((numbers["clipped"] > 0).sum())
    assert clips > 0


def test_damaged_records_are_a_note_and_a_new_file_is_read(recorded: StageLayout) -> None:
    reader, run_settings = EpisodeReader(), load_run_config(recorded.config_file)
    records = recorded.token_records(2)
    whole = records.read_bytes()
    records.write_bytes(whole[:100])
    for _ in range(2):
        pages = reader.read(recorded, run_settings, share=1.0, done=ignore)
        (note,) = pages.notes
        assert note.startswith(f"the tokens of step 2 are shown without their numbers: {records}")
        (held,) = map(unpacked, pages.steps[2].chunks)
        # Who went through the learner is told by the advantages then.
        assert [set("gt") & set(e["turns"][0]) for e in held["episodes"]] == [{"g"}, {"g"}]
    records.write_bytes(whole)
    pages = reader.read(recorded, run_settings, share=1.0, done=ignore)
    assert pages.notes == []
    assert "t" in unpacked(pages.steps[2].chunks[0])["episodes"][0]["turns"][0]
