"""The files of an evaluation's episodes: torn, damaged, of another setting, locked."""

import json
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.evaluation.episodes import (
    evaluation_folders,
    open_episodes,
    repeat_file,
    stored_episodes,
)
from agent_rl.evaluation.playing import tasks_by_split
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
from envs import make_env
from tests.builders.episodes import trajectory, turn
from tests.builders.evaluations import GAMES, Chance, config, folder_of, ids, run


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
        f"the first episode that is not scored: task {game!r}: it broke\n"
        f"see `error` in {path}; the same command plays such episodes again" in shown
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
    assert f"{path}: the last line is torn" in capsys.readouterr().out
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
        f"^{path}:{GAMES + 1}: an episode of '.*', which is no game .* or occurs twice",
    )
    refused(lines[0].replace("valid-0", "other-0") + lines[1], f"^{path}:1: an episode of 'other-0")
    refused("\udcff" + lines[0], f"^{path}: damaged .*utf-8")
    path.write_text("".join(lines))
    (folder / "setting.json").unlink()
    with pytest.raises(
        ConfigError, match=r"setting.json: missing or damaged .* --again, which renames"
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
        ConfigError, match=f"^{path}: temperature: the episodes there have None, and"
    ):
        run(config(tmp_path), Chance())
    path.write_text(json.dumps({**setting, "seed": 5}))
    message = (
        f"^{path}: seed: the episodes there have 5, and this evaluation has 0; "
        f"move {path.parent} away"
    )
    with pytest.raises(ConfigError, match=message):
        run(config(tmp_path), Chance())


def test_again_keeps_what_there_was(tmp_path: Path) -> None:
    for number in range(3):
        play = Chance()
        run(config(tmp_path), play, again=True)
        assert len(play.calls) == 1
        names = sorted(
            entry.name for entry in (tmp_path / "evaluations").iterdir() if entry.is_dir()
        )
        assert names == [names[0], *(f"{names[0]}.before-{n + 1}" for n in range(number))]
        assert all(
            len(ids(tmp_path / "evaluations" / name / "repeat-1.jsonl")) == GAMES for name in names
        )


def test_two_do_not_play_the_same_at_a_time(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    folder = folder_of(tmp_path)
    with open_episodes(folder, json.loads((folder / "setting.json").read_text())):
        for again in (False, True):
            with pytest.raises(
                ConfigError, match=f"^{folder}: another process is playing this evaluation; wait"
            ):
                run(config(tmp_path), Chance(), again=again)
    run(config(tmp_path), Chance())


def test_an_unfinished_rewrite_leaves_the_file_alone(tmp_path: Path) -> None:
    run(config(tmp_path), Chance())
    path = folder_of(tmp_path) / "repeat-1.jsonl"
    write_trajectories(path.with_name(f"{path.name}.unfinished-7"), load_trajectories(path)[:1])
    play = Chance()
    run(config(tmp_path), play)
    assert play.calls == []


def test_stored_episodes_have_names_and_those_set_aside_are_left_out(tmp_path: Path) -> None:
    for name in ("sft-valid-t0.5-0a", "sft-valid-t0.5-0a.before-1", "expert-valid-0b"):
        write_trajectories(repeat_file(tmp_path / name, 0), [trajectory(turn())])
    write_trajectories(repeat_file(tmp_path / "expert-valid-0b", 1), [trajectory(turn())] * 2)
    (tmp_path / "empty").mkdir()
    folders = evaluation_folders(tmp_path)
    assert [folder.name for folder in folders] == ["expert-valid-0b", "sft-valid-t0.5-0a"]
    names = [name for name, _ in stored_episodes(folders[0])]
    assert names == ["expert-valid-0b/1/1", "expert-valid-0b/2/1", "expert-valid-0b/2/2"]
