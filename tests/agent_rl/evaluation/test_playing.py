"""Evaluations that are broken off, gone on with, extended and damaged; the episodes are real ones,
played by chance.
"""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_rl.config import Config, ConfigError, EvaluationSettings
from agent_rl.evaluation.episodes import digest, opened
from agent_rl.evaluation.playing import (
    Outputs,
    Subject,
    repeat_seed,
    run_evaluation,
    set_aside_after,
    tasks_by_split,
)
from agent_rl.evaluation.report import EvaluationReport, read_report
from agent_rl.runs.folder import load_trajectories, write_trajectories
from envs import Task, make_env
from rollouts import StopReason
from rollouts.players import RandomPlayer
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.seeds import derive_seed
from rollouts.workers.pool import OnEpisode

GAMES = 6
SUBJECT = Subject(
    model="runs/m/sft/model",
    name="sft",
    identity="abc",
    weights="w",
    temperature=0.5,
    details={"dtype": "float32"},
)


class Chance:
    """Plays guess-the-number by chance, seeded by the call's seed and the task, as a policy is.

    It is interrupted after `stop_after` episodes; the tasks in `failing` end in an error. `calls`:
    the tasks of each call, by id, with the seed.
    """

    def __init__(self, *, stop_after: int | None = None, failing: tuple[str, ...] = ()) -> None:
        self.env = make_env("guess-the-number")
        self.stop_after, self.failing = stop_after, failing
        self.calls: list[tuple[list[str], int]] = []
        self.played = 0

    def __call__(self, tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
        self.calls.append(([task.id for task in tasks], seed))
        for task in reversed(tasks):
            if self.played == self.stop_after:
                raise KeyboardInterrupt
            player = RandomPlayer(self.env, derive_seed(seed, task.split, task.id))
            episode = asyncio.run(
                run_scripted_episode(
                    self.env, task, player, byte_renderer(), config(Path()).episode
                )
            )
            if task.id in self.failing:
                episode = replace(
                    episode, stop_reason=StopReason.ENV_ERROR, success=False, error="it broke"
                )
            self.played += 1
            on_episode(episode)


def config(folder: Path, **evaluation: Any) -> Config:
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "env": {"id": "guess-the-number"},
            "episode": {"max_turns": 10},
            "evaluation": {"split": "valid", "tasks": GAMES, **evaluation},
        }
    )


def run(
    settings: Config, play: Chance, subject: Subject = SUBJECT, **options: Any
) -> EvaluationReport:
    return run_evaluation(settings, subject, tasks_by_split(settings, play.env), play, **options)


def folder_of(path: Path) -> Path:
    (found,) = [entry for entry in (path / "evaluations").iterdir() if entry.is_dir()]
    return found


def ids(path: Path) -> list[str]:
    return [episode.task.id for episode in load_trajectories(path)]


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
    assert f"{GAMES + 2} of {2 * GAMES} episodes are there already" in capsys.readouterr().out
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


def test_an_episode_that_says_nothing_is_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    game = tasks_by_split(config(tmp_path), make_env("guess-the-number"))["valid"][2].id
    report = run(config(tmp_path), Chance(failing=(game,)))
    part = report.splits["valid"]
    assert (part.overall.n, part.failures) == (GAMES - 1, {"env_error": 1})
    shown = capsys.readouterr().out
    path = folder_of(tmp_path) / "repeat-1.jsonl"
    assert "not scored, as they say nothing about the policy: 1 env_error\n" in shown
    assert (
        f"the first that is not scored: it broke\nsee `error` in {path}; the same command plays them again"
        in shown
    )
    assert len(ids(path)) == GAMES
    mended = Chance()
    report = run(config(tmp_path), mended)
    assert mended.calls == [([game], 0)]
    assert (report.overall.n, report.splits["valid"].failures, len(ids(path))) == (GAMES, {}, GAMES)
    assert "not scored" not in capsys.readouterr().out


def test_a_torn_last_line_is_played_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = run(config(tmp_path), Chance())
    path = folder_of(tmp_path) / "repeat-1.jsonl"
    last = ids(path)[-1]
    path.write_bytes(path.read_bytes()[:-30])
    rest = Chance()
    assert run(config(tmp_path), rest) == expected
    assert rest.calls == [([last], 0)]
    assert f"{path}: its last line is torn" in capsys.readouterr().out
    assert ids(path)[-1] == last
    path.write_bytes(path.read_bytes()[:20])  # not even one whole line
    again = Chance()
    assert run(config(tmp_path), again) == expected
    assert len(again.calls[0][0]) == GAMES


def test_other_damage_is_named_and_nothing_is_played(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    folder = folder_of(tmp_path)
    path = folder / "repeat-1.jsonl"
    lines = path.read_text().splitlines(keepends=True)

    def refused(content: str, message: str) -> None:
        path.write_text(content, errors="surrogateescape")
        play = Chance()
        with pytest.raises(ConfigError, match=message):
            run(config(tmp_path), play)
        assert play.calls == []
        assert path.read_text(errors="surrogateescape") == content

    refused(
        "".join([lines[0], lines[1][:40] + "\n", *lines[2:]]),
        f"^{path}:2: not a whole line of JSON",
    )
    refused("".join([*lines[:3], '{"task": 3}\n']), f"^{path}:4: not an episode")
    refused(
        "".join([*lines, lines[2]]),
        f"^{path}:{GAMES + 1}: an episode of '.*', which is no game .* or is there",
    )
    refused(lines[0].replace("valid-0", "other-0") + lines[1], f"^{path}:1: an episode of 'other-0")
    refused("\udcff" + lines[0], f"^{path}: damaged .*utf-8")
    path.write_text("".join(lines))
    (folder / "setting.json").unlink()
    with pytest.raises(
        ConfigError, match=r"setting.json: missing or damaged .* --again, which keeps"
    ):
        run(config(tmp_path), Chance())


def test_a_folder_of_another_setting_is_refused(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    path = folder_of(tmp_path) / "setting.json"
    setting = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in setting.items() if key != "temperature"})
    )
    with pytest.raises(
        ConfigError, match=f"^{path}: temperature: the episodes there are of None, and"
    ):
        run(config(tmp_path), Chance())
    path.write_text(json.dumps({**setting, "seed": 5}))
    what = f"^{path}: seed: the episodes there are of 5, and this evaluation is of 0; move {path.parent} away"
    with pytest.raises(ConfigError, match=what):
        run(config(tmp_path), Chance())


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
def test_what_the_numbers_depend_on_has_a_folder_of_its_own(
    change: dict[str, Any], subject: dict[str, Any], tmp_path: Path
) -> None:
    before, after = (
        config(tmp_path),
        Config.model_validate({**config(tmp_path).model_dump(), **change}),
    )
    run(before, Chance())
    play = Chance()
    run(after, play, replace(SUBJECT, **subject))
    assert len(play.calls) == 1
    digests = {entry.name[-8:] for entry in (tmp_path / "evaluations").iterdir() if entry.is_dir()}
    assert len(digests) == 2


def test_what_they_do_not_depend_on_has_not(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    moved = replace(SUBJECT, model="elsewhere/sft/model", weights="v")
    patient = config(tmp_path).model_copy(
        update={"episode": config(tmp_path).episode.model_copy(update={"timeout_seconds": 9.0})}
    )
    play = Chance()
    report = run(patient, play, moved)
    assert play.calls == []
    assert report.setting["model"] == "elsewhere/sft/model"
    assert folder_of(tmp_path).name.startswith("sft-valid-t0.5-")


def test_again_keeps_what_there_was(tmp_path: Path) -> None:
    for number in range(3):
        play = Chance()
        run(config(tmp_path), play, again=True)
        assert len(play.calls) == 1
        names = sorted(
            entry.name for entry in (tmp_path / "evaluations").iterdir() if entry.is_dir()
        )
        assert names == [names[0], *(f"{names[0]}-before-{n + 1}" for n in range(number))]
        assert all(
            len(ids(tmp_path / "evaluations" / name / "repeat-1.jsonl")) == GAMES for name in names
        )


def test_two_do_not_play_the_same_at_a_time(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    folder = folder_of(tmp_path)
    with opened(folder, json.loads((folder / "setting.json").read_text())):
        for again in (False, True):
            with pytest.raises(
                ConfigError, match=f"^{folder}: another process is playing this evaluation; wait"
            ):
                run(config(tmp_path), Chance(), again=again)
    run(config(tmp_path), Chance())


def test_a_digest_is_of_the_values_and_not_of_their_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1}) != digest({"a": 1, "b": [3]})


def test_a_repeat_whose_seeds_hang_together_is_played_whole(tmp_path: Path) -> None:
    chance = replace(SUBJECT, whole_repeats=True)
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
        match=r"^split 'test': environment 'guess-the-number' has no such split; there are: train, valid$",
    ):
        tasks_by_split(config(Path(), split="valid,test"), env)
    with pytest.raises(
        ConfigError, match=r"^split 'train': .* has no task; .*; splits with tasks: valid$"
    ):
        tasks_by_split(config(Path(), split="train"), env)
    env = make_env("guess-the-number", train=0, valid=0)
    with pytest.raises(ConfigError, match=r"no other split has tasks$"):
        tasks_by_split(config(Path(), split="train"), env)


def test_splits_are_written_in_three_ways() -> None:
    for value in ("a,b", "a, b", ["a", "b"]):
        assert EvaluationSettings.model_validate({"split": value}).split == ("a", "b")
    assert EvaluationSettings.model_validate({"split": "a"}).split == ("a",)
    wrong: Any
    for wrong in ("", "a,", "a,a", []):
        with pytest.raises(ValueError, match="write the names of different splits"):
            EvaluationSettings.model_validate({"split": wrong})


def test_an_unfinished_rewrite_leaves_the_file_alone(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    path = folder_of(tmp_path) / "repeat-1.jsonl"
    write_trajectories(path.with_suffix(".partial"), load_trajectories(path)[:1])
    play = Chance()
    run(config(tmp_path), play)
    assert play.calls == []


def of_checkpoint(run: str, step: int) -> str:
    """A report on a checkpoint of the run `run`."""
    return json.dumps({"setting": {"model": f"runs/{run}/train/checkpoints/step-{step:06d}/model"}})


def test_reports_on_checkpoints_that_are_made_anew_are_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "step-000100"  # a name to be confused by
    folder = run / "evaluations"
    folder.mkdir(parents=True)
    stay = {
        "sft-v-aa.json": json.dumps({"setting": {"model": "runs/step-000100/sft/model"}}),
        "expert-v-aa.json": json.dumps({"setting": {"model": "expert"}}),
        "step-000050-v-aa.json": of_checkpoint("another", 50),
        "torn.json": '{"setting": {"mod',
        "odd.json": "[]",
    }
    for name, text in stay.items():
        (folder / name).write_text(text)
    for step in (20, 40):
        (folder / f"step-{step:06d}-v-aa.json").write_text(of_checkpoint("step-000100", step))
    (folder / "step-000040-v-aa.json.before-1").write_text("")
    set_aside_after(run, 20)
    after = [
        "step-000020-v-aa.json",
        "step-000040-v-aa.json.before-1",
        "step-000040-v-aa.json.before-2",
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*stay, *after])
    assert "rollout step 40 will be made anew" in capsys.readouterr().out
    set_aside_after(run, 0)
    assert sorted(path.name for path in folder.glob("*.json")) == sorted(stay)
    set_aside_after(tmp_path / "new", 0)


def test_so_are_those_of_the_training_and_the_final_one(tmp_path: Path) -> None:
    training, final = tmp_path / "train/evaluations", tmp_path / "evaluations/final.json"
    for folder in (training, final.parent):
        folder.mkdir(parents=True)
    for step in (8, 16):
        (training / f"step-{step:06d}.json").write_text("")
    final.write_text(of_checkpoint(tmp_path.name, 24))
    set_aside_after(tmp_path, 24)
    assert final.is_file(), "a run that is made longer keeps it"
    set_aside_after(tmp_path, 8)
    assert [path.name for path in sorted(training.iterdir())] == [
        "step-000008.json",
        "step-000016.json.before-1",
    ]
    assert [path.name for path in final.parent.iterdir()] == ["final.json.before-1"]
