"""Evaluations that are interrupted, resumed and extended; chance plays real episodes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config, ConfigError, EvaluationSettings
from agent_rl.evaluation.playing import (
    Outputs,
    policy_name,
    repeat_seed,
    set_aside_after,
    tasks_by_split,
)
from agent_rl.evaluation.report import read_report
from agent_rl.runs.trajectories import load_trajectories
from envs import make_env
from tests.builders.evaluations import GAMES, SFT_POLICY, Chance, config, folder_of, ids, run
from tests.builders.runs import report


def test_a_broken_off_evaluation_plays_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Chance()
    expected = run(config(tmp_path / "whole", repeats=2), whole)
    assert 0 < expected.overall.successes < 2 * GAMES, (
        "the games are too easy or too hard to tell repeats apart"
    )
    assert [seed for _, seed in whole.calls] == [0, repeat_seed(0, 1)]
    assert load_trajectories(folder_of(tmp_path / "whole") / "repeat-1.jsonl") != load_trajectories(
        folder_of(tmp_path / "whole") / "repeat-2.jsonl"
    )

    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path / "broken", repeats=2), Chance(stop_after=GAMES + 2))
    broken = folder_of(tmp_path / "broken")
    had = ids(broken / "repeat-2.jsonl")
    assert (len(ids(broken / "repeat-1.jsonl")), len(had)) == (GAMES, 2)
    assert not list((tmp_path / "broken" / "evaluations").glob("*.json"))
    capsys.readouterr()
    rest = Chance()
    report = run(config(tmp_path / "broken", repeats=2), rest)
    assert f"{GAMES + 2} of {2 * GAMES} episodes have been played before" in capsys.readouterr().out
    ((missing, seed),) = rest.calls
    assert sorted([*missing, *had]) == sorted(ids(broken / "repeat-1.jsonl"))
    assert (len(missing), seed) == (GAMES - 2, repeat_seed(0, 1))
    assert report == expected
    (file,) = (tmp_path / "broken" / "evaluations").glob("*.json")
    assert (file.stem, read_report(file)) == (broken.name, report)


def test_a_whole_evaluation_plays_nothing_and_more_repeats_go_on(tmp_path: Path) -> None:
    first = run(config(tmp_path), Chance())
    again, more = Chance(), Chance()
    assert run(config(tmp_path), again) == first
    assert again.calls == []
    report = run(config(tmp_path, repeats=3), more)
    assert [seed for _, seed in more.calls] == [repeat_seed(0, 1), repeat_seed(0, 2)]
    assert report.overall.per_repeat[0] == first.overall.per_repeat[0]
    assert report.setting == {**first.setting, "repeats": 3}
    assert (report.setting["weights"], report.setting["dtype"], report.setting["max_turns"]) == (
        "w",
        "float32",
        10,
    )
    assert run(config(tmp_path), again) == first, "the repeats that are there are not all asked for"


def test_seeds_of_repeats_differ_and_the_first_is_the_configs() -> None:
    assert repeat_seed(7, 0) == 7
    assert len({repeat_seed(seed, repeat) for seed in range(5) for repeat in range(5)}) == 25


@pytest.mark.parametrize(
    ("change", "subject"),
    [
        ({"seed": 1}, {}),
        ({"episode": {"max_turns": 9}}, {}),
        ({"env": {"id": "guess-the-number", "options": {"high": 19}}}, {}),
        ({"evaluation": {"split": "valid", "tasks": 5}}, {}),
        ({"evaluation": {"split": "train", "tasks": GAMES}}, {}),
        ({}, {"identity": "abd"}),
        ({}, {"temperature": 0.6}),
        ({}, {"details": {"prompt": "chat"}}),
    ],
)
def test_each_setting_has_its_own_folder(
    change: dict[str, Any], subject: dict[str, Any], tmp_path: Path
) -> None:
    before, after = (
        config(tmp_path),
        Config.model_validate({**config(tmp_path).model_dump(), **change}),
    )
    run(before, Chance())
    play = Chance()
    run(after, play, replace(SFT_POLICY, **subject))
    assert len(play.calls) == 1
    digests = {entry.name[-8:] for entry in (tmp_path / "evaluations").iterdir() if entry.is_dir()}
    assert len(digests) == 2


def test_what_they_do_not_depend_on_has_not(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    moved = replace(SFT_POLICY, model="elsewhere/sft/model", weights="v")
    patient = config(tmp_path).model_copy(
        update={"episode": config(tmp_path).episode.model_copy(update={"env_timeout_seconds": 9.0})}
    )
    play = Chance()
    report = run(patient, play, moved)
    assert play.calls == []
    assert report.setting["model"] == "elsewhere/sft/model"
    assert folder_of(tmp_path).name.startswith("sft-valid-t0.5-")


def test_a_repeat_whose_seeds_hang_together_is_played_whole(tmp_path: Path) -> None:
    chance = replace(SFT_POLICY, whole_repeats=True)
    with pytest.raises(KeyboardInterrupt):
        run(config(tmp_path), Chance(stop_after=2), chance)
    kept = load_trajectories(folder_of(tmp_path) / "repeat-1.jsonl")
    play = Chance()
    run(config(tmp_path), play, chance)
    assert len(play.calls[0][0]) == GAMES
    there = load_trajectories(folder_of(tmp_path) / "repeat-1.jsonl")
    assert (there[:2], len(there)) == (kept, GAMES)


def test_two_splits_have_folders_of_their_own_and_one_report(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    play = Chance()
    outputs = Outputs(
        json=tmp_path / "a" / "r.json",
        markdown=tmp_path / "b" / "r.md",
        latex=tmp_path / "c" / "r.tex",
    )
    report = run(config(tmp_path, split="valid,train"), play, outputs=outputs)
    ((played, seed),) = play.calls
    assert (len(played), seed) == (GAMES, 0)
    assert all(name.startswith("train-") for name in played)
    assert list(report.splits) == ["valid", "train"]
    assert report.gap is not None
    assert report.gap.splits == ("valid", "train")
    (file,) = (tmp_path / "evaluations").glob("sft-valid+train-t0.5-*.json")
    assert read_report(tmp_path / "a" / "r.json") == read_report(file) == report
    assert "## valid - train" in (tmp_path / "b" / "r.md").read_text()
    assert (tmp_path / "c" / "r.tex").read_text().count(r"\\") == 2


def test_a_split_that_is_not_there_names_those_that_are() -> None:
    env = make_env("guess-the-number", train=0, valid=3)
    with pytest.raises(
        ConfigError,
        match=r"^split 'test': environment 'guess-the-number' has no such split; "
        r"there are: train, valid$",
    ):
        tasks_by_split(config(Path(), split="valid,test"), env)
    with pytest.raises(
        ConfigError, match=r"^split 'train': .* has no task; .*; splits with tasks: valid$"
    ):
        tasks_by_split(config(Path(), split="train"), env)
    env = make_env("guess-the-number", train=0, valid=0)
    with pytest.raises(ConfigError, match=r"no split has tasks$"):
        tasks_by_split(config(Path(), split="train"), env)


def test_splits_are_written_in_three_ways() -> None:
    for value in ("a,b", "a, b", ["a", "b"]):
        assert EvaluationSettings.model_validate({"split": value}).split == ("a", "b")
    assert EvaluationSettings.model_validate({"split": "a"}).split == ("a",)
    wrong: Any
    for wrong in ("", "a,", "a,a", []):
        with pytest.raises(ValueError, match="write the names of different splits"):
            EvaluationSettings.model_validate({"split": wrong})


def on(model: str) -> str:
    """A report on a policy."""
    return json.dumps(report(model=model).record())


def on_checkpoint(run: str, step: int) -> str:
    """A report on a checkpoint of the run `run`."""
    return on(f"runs/{run}/train/checkpoints/step-{step:06d}/model")


def test_reports_on_checkpoints_that_are_repeated_are_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "step-000100"  # a name to be confused by
    folder = run / "evaluations"
    folder.mkdir(parents=True)
    stay = {
        "sft-v-aa.json": on("runs/step-000100/sft/model"),
        "expert-v-aa.json": on("expert"),
        "step-000050-v-aa.json": on_checkpoint("another", 50),
        "torn.json": '{"setting": {"mod',
        "odd.json": "[]",
    }
    for name, text in stay.items():
        (folder / name).write_text(text)
    for step in (20, 40):
        (folder / f"step-{step:06d}-v-aa.json").write_text(on_checkpoint("step-000100", step))
    (folder / "step-000040-v-aa.json.before-1").write_text("")
    set_aside_after(run, 20)
    after = [
        "step-000020-v-aa.json",
        "step-000040-v-aa.json.before-1",
        "step-000040-v-aa.json.before-2",
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*stay, *after])
    assert "rollout step 40 is repeated" in capsys.readouterr().out
    set_aside_after(run, 0)
    assert sorted(path.name for path in folder.glob("*.json")) == sorted(stay)
    set_aside_after(tmp_path / "new", 0)


def test_so_are_those_of_the_training_and_the_final_one(tmp_path: Path) -> None:
    training, final = tmp_path / "train/evaluations", tmp_path / "evaluations/final.json"
    for folder in (training, final.parent):
        folder.mkdir(parents=True)
    for step in (8, 16):
        (training / f"step-{step:06d}.json").write_text("")
    final.write_text(on_checkpoint(tmp_path.name, 24))
    set_aside_after(tmp_path, 24)
    assert final.is_file(), "a run that is made longer keeps it"
    set_aside_after(tmp_path, 8)
    assert [path.name for path in sorted(training.iterdir())] == [
        "step-000008.json",
        "step-000016.json.before-1",
    ]
    assert [path.name for path in final.parent.iterdir()] == ["final.json.before-1"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("runs/demo/train/checkpoints/step-000050/model", "step-000050"),
        ("/home/runs/demo/sft/model", "sft"),
        ("runs/demo/init", "init"),
        ("model", "model"),
        ("../policies/Q4_K.gguf", "Q4_K"),
        ("Qwen/Qwen2.5-1.5B-Instruct", "Qwen2.5-1.5B-Instruct"),
        ("my policy (best)/", "my-policy-best"),
        ("..", "policy"),
    ],
)
def test_short_names(source: str, name: str) -> None:
    assert policy_name(source) == name


def test_a_new_setting_leaves_the_folders_of_earlier_versions_as_they_were(tmp_path: Path) -> None:
    def conditions(**episode: float) -> dict[str, Any]:
        settings = config(tmp_path / str(len(episode)))
        changed = settings.episode.model_copy(update=episode)
        run(settings.model_copy(update={"episode": changed}), Chance())
        (folder,) = (tmp_path / str(len(episode)) / "evaluations").glob("*/setting.json")
        found: dict[str, Any] = json.loads(folder.read_text())["episode"]
        return found

    new = {"repeated_action_penalty", "seen_observation_penalty", "timeout_seconds"}
    assert conditions().keys() & new == set()
    changed = conditions(repeated_action_penalty=0.5, timeout_seconds=9.0)
    assert (changed["repeated_action_penalty"], changed["timeout_seconds"]) == (0.5, 9.0)
