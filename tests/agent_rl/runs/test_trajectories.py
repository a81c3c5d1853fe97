import math
from dataclasses import replace
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
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


def test_episodes_are_read_back_to_the_last_digit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "t.jsonl"
    write_trajectories(path, [WON, LOST])
    assert load_trajectories(path) == [WON, LOST]
    write_trajectories(path, [WON], append=True)
    assert load_trajectories(path) == [WON, LOST, WON]
    write_trajectories(path, [])
    assert load_trajectories(path) == []


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
