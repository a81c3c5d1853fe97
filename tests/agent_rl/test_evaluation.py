import json
from pathlib import Path

import pytest

from agent_rl.evaluation import summarize, wilson_interval
from envs import Task
from rollouts import Completion, FinishReason, ParsedAction, StopReason, Trajectory, Turn


def episode(family: str, reason: StopReason, admissible: tuple[bool, ...]) -> Trajectory:
    completion = Completion(token_ids=(3, 2), logprobs=(-0.5, -0.5), finish_reason=FinishReason.STOP, policy_version=0)
    turns = tuple(
        Turn(
            observation="o",
            prompt_token_ids=(1,),
            completion=completion,
            action=ParsedAction(text="look", command="look"),
            admissible=ok,
            reward=0.0,
        )
        for ok in admissible
    )
    task = Task(env_id="e", split="s", family=family, id=f"{family}-{reason.value}")
    return Trajectory(task=task, turns=turns, stop_reason=reason, success=reason is StopReason.SUCCESS)


def test_wilson_interval_by_hand() -> None:
    # n = 10, 5 successes, z = 1.959964: centre 0.5, half width z * sqrt(0.025 + z^2 / 400) / (1 + z^2 / 10)
    low, high = wilson_interval(5, 10)
    assert low == pytest.approx(0.236593, abs=1e-6)
    assert high == pytest.approx(0.763407, abs=1e-6)
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_scores_by_family_and_failures_apart(tmp_path: Path) -> None:
    report = summarize(
        [
            episode("pick", StopReason.SUCCESS, (True, True)),
            episode("pick", StopReason.MAX_TURNS, (True, False, False, True)),
            episode("heat", StopReason.CONTEXT_FULL, (True, True, True)),
            episode("heat", StopReason.ENV_ERROR, (False,)),
        ],
        {"split": "s"},
    )
    assert (report.overall.n, report.overall.successes) == (3, 1)
    assert report.overall.success == pytest.approx(1 / 3)
    assert report.overall.mean_turns == 3.0
    assert report.overall.invalid_action_rate == pytest.approx(2 / 9)
    assert (report.families["pick"].success, report.families["heat"].success) == (0.5, 0.0)
    assert report.families["heat"].n == 1
    assert report.failures == {"env_error": 1}
    report.write(tmp_path / "deep" / "r.json")
    written = json.loads((tmp_path / "deep" / "r.json").read_text())
    assert set(written["families"]["pick"]) >= {"n", "successes", "success", "interval"}
    assert written["overall"]["interval"] == pytest.approx(list(report.overall.interval))
