"""The table that a demo ends with."""

import pytest

from agent_rl.commands.stages.demo import comparison
from agent_rl.display import console
from agent_rl.evaluation.report import EvaluationReport, summarize
from envs import Task
from rollouts import StopReason
from tests.builders.episodes import trajectory, turn


def report(**wins: int) -> EvaluationReport:
    """Four games of each family, so many of them won."""
    episodes = [
        trajectory(
            turn(),
            task=Task(env_id="e", split="s", family=family, id=f"{family}-{number}"),
            stop_reason=StopReason.SUCCESS if number < won else StopReason.FAILURE,
        )
        for family, won in wins.items()
        for number in range(4)
    ]
    return summarize({"s": [episodes]}, {})


def test_a_column_for_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    console.print(
        comparison(
            {
                "init": report(heat=0, pick=1),
                "sft": report(heat=2, pick=1),
                "gmpo": report(heat=4, pick=3),
            }
        )
    )
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows[1] == ["before", "after", "after"]
    assert rows[4:6] == [
        ["heat", "4", "0.0", "50.0", "100.0"],
        ["pick", "4", "25.0", "25.0", "75.0"],
    ]
    # Wilson's interval of 1, 3 and 7 of 8
    everything = [
        "all",
        "(95",
        "%",
        "interval)",
        "8",
        "12.5",
        "(2-47)",
        "37.5",
        "(14-69)",
        "87.5",
        "(53-98)",
    ]
    assert rows[6] == everything
