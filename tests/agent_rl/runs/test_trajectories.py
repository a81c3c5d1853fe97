import gzip
import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.trajectories import (
    load_step_episodes,
    load_trajectories,
    write_trajectories,
)
from envs import Task
from rollouts import FinishReason, StopReason, Turn
from tests.builders.episodes import trajectory, turn


def said(reason: FinishReason, command: str | None, *logprobs: float) -> Turn:
    return turn(
        (1, 2),
        tuple(range(len(logprobs))),
        logprobs=logprobs,
        finish_reason=reason,
        policy_version=3,
        observation='é "\n\u2028 \ud800',
        text="look\n",
        command=command,
        admissible=command is not None,
        reward=0.1,
    )


WON = trajectory(
    said(FinishReason.LENGTH, None, -0.123456789012345, -1e-30),
    said(FinishReason.STOP, "look", -math.inf, 0.0),
    task=Task(env_id="e", split="s", family="f", id="i", seed=3, scene="kitchen", difficulty=4),
    final_observation="Done.",
    env_seconds=1 / 3,
    policy_seconds=2.5,
)
LOST = replace(
    WON, turns=(), stop_reason=StopReason.ENV_ERROR, success=False, error="reset: OSError: no"
)


def test_a_new_prompt_is_marked_and_no_other(tmp_path: Path) -> None:
    cut = replace(WON, turns=(WON.turns[0], replace(WON.turns[1], new_prompt=True)))
    write_trajectories(tmp_path / "t.jsonl", [cut])
    assert load_trajectories(tmp_path / "t.jsonl") == [cut]
    assert (tmp_path / "t.jsonl").read_text().count('"new_prompt": true') == 1
    write_trajectories(tmp_path / "t.jsonl", [WON])
    assert "new_prompt" not in (tmp_path / "t.jsonl").read_text()


def test_advice_and_mistakes_are_kept_where_there_is_some(tmp_path: Path) -> None:
    marked = replace(WON.turns[1], advice="go", mistakes=((0, 1),))
    advised = replace(WON, turns=(WON.turns[0], marked))
    write_trajectories(tmp_path / "t.jsonl", [advised])
    assert load_trajectories(tmp_path / "t.jsonl") == [advised]
    assert (tmp_path / "t.jsonl").read_text().count('"advice": "go"') == 1


def test_what_is_no_action_is_marked_and_nothing_else(tmp_path: Path) -> None:
    thought = replace(WON.turns[0], kind="thought", new_prompt=True)
    stopped = replace(WON.turns[1].completion, finish_reason=FinishReason.STOP_TEXT)
    cut = replace(WON, turns=(thought, replace(WON.turns[1], completion=stopped)))
    write_trajectories(tmp_path / "t.jsonl", [cut])
    assert load_trajectories(tmp_path / "t.jsonl") == [cut]
    assert (tmp_path / "t.jsonl").read_text().count('"kind"') == 1


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_episodes_are_read_back_to_the_last_digit(tmp_path: Path, name: str) -> None:
    path = tmp_path / "deep" / name
    write_trajectories(path, [WON, LOST])
    assert load_trajectories(path) == [WON, LOST]
    write_trajectories(path, [WON], append=True)
    assert load_trajectories(path) == [WON, LOST, WON]
    write_trajectories(path, [])
    assert load_trajectories(path) == []


def test_a_name_in_gz_is_compressed(tmp_path: Path) -> None:
    plain, compressed = tmp_path / "t.jsonl", tmp_path / "t.jsonl.gz"
    for path in (plain, compressed):
        write_trajectories(path, [WON, LOST] * 20)
    assert gzip.decompress(compressed.read_bytes()) == plain.read_bytes()
    assert compressed.stat().st_size < plain.stat().st_size / 5


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_trajectories(path, [WON])
    with pytest.raises(AttributeError):
        write_trajectories(path, [LOST, None])  # type: ignore[list-item]
    assert load_trajectories(path) == [WON]
    assert list(tmp_path.iterdir()) == [path]


def test_a_compressed_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    write_trajectories(path, [replace(WON, error=str(n) * 9999) for n in range(50)])
    whole = path.read_bytes()

    def refused(content: bytes, message: str) -> None:
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=rf"t\.jsonl\.gz: damaged after line {message}"):
            load_trajectories(path)

    refused(whole[:-1], r"50 \(Compressed file ended .*\); copy it again, or keep the lines until")
    refused(whole[: len(whole) // 2], r"\d\d \(Compressed file ended")
    refused(whole[:3], r"0 \(Compressed file ended")
    refused(b"", r"0 \(the file is empty\)")
    refused(gzip.decompress(whole), r"0 \(Not a gzipped file")
    refused(whole[:-8] + b"\0" * 8, r"50 \(CRC check failed")
    data = whole.index(b"\0", 10) + 1  # after the header, whose last part is a name
    refused(whole[:data] + b"\xff" * 9 + whole[data + 9 :], r"0 \(Error -3 while decompressing")


def test_a_plain_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"t\.jsonl: damaged after line 0 .*utf-8"):
        load_trajectories(path)


def test_the_versions_of_a_completion_are_one_number_unless_there_are_several(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.jsonl"
    mixed = trajectory(turn((1,), (3, 4, 2), versions=((5, 0), (6, 2))), turn(policy_version=6))
    write_trajectories(path, [mixed])
    line = path.read_text()
    assert '"policy_version": [[5, 0], [6, 2]]' in line
    assert '"policy_version": 6,' in line
    (read,) = load_trajectories(path)
    assert read == mixed
    assert [t.completion.policy_version for t in read.turns] == [5, 6]
    path.write_text(line.replace("[6, 2]]", "[6, 3]]"))
    with pytest.raises(ConfigError, match=r"t\.jsonl:1: not an episode: .*Assertion failed"):
        load_trajectories(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"reward": 0.1', '"rew', r"not a whole line of JSON .*torn: delete that line"),
        ('"turns"', '"trns"', "there is no 'turns'"),
        ('"env_id": "e", ', "", r"task\.env_id: Field required"),
        ('"id": "i"', '"id": 5', r"task\.id: Input should be a valid string"),
        (
            '"finish_reason": "stop"',
            '"finish_reason": "halt"',
            r"turns\.1\.completion\.finish_reason: .*'length'",
        ),
        ('"command": "look", ', "", "there is no 'command'"),
        (
            '"token_ids": [0, 1], "logprobs": [-Inf',
            '"token_ids": [0], "logprobs": [-Inf',
            "Assertion failed",
        ),
        ('"success": true', '"success": false', "Assertion failed"),
    ],
)
def test_a_line_that_holds_no_episode_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [WON, WON])
    first, second = path.read_text().splitlines()
    assert old in second
    bad = second[: second.index(old)] + new if "rew" in new else second.replace(old, new)
    path.write_text(f"{first}\n{bad}\n")
    with pytest.raises(ConfigError, match=rf"t\.jsonl:2: .*{message}"):
        load_trajectories(path)


def test_other_json_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(
        ConfigError, match=r"t\.jsonl:1: not an episode: a line is an object, this is list"
    ):
        load_trajectories(path)
    with pytest.raises(ConfigError, match="no such file"):
        load_trajectories(tmp_path / "none.jsonl")


def test_episodes_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "step-000012.jsonl.gz"
    ids = [EpisodeId(12, 1, 1), EpisodeId(12, 2, 1)]
    write_trajectories(path, [WON, LOST], ids=ids)
    assert load_step_episodes(path, 12) == dict(zip(ids, [WON, LOST], strict=True))
    assert load_trajectories(path) == [WON, LOST]
    write_trajectories(path, [WON, LOST])  # as earlier versions did: one task, so one group
    assert [*load_step_episodes(path, 12)] == [EpisodeId(12, 1, 1), EpisodeId(12, 1, 2)]
