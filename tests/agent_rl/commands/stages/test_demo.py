"""The table and the episodes that a demo ends with."""

import pytest

from agent_rl.commands.stages.demo import comparison, show_before_and_after, stage_titles
from agent_rl.display import console
from agent_rl.evaluation.report import EvaluationReport
from envs import Task
from rollouts import StopReason, Trajectory
from tests.builders.episodes import trajectory, turn
from tests.builders.runs import report


def four_games(**wins: int) -> EvaluationReport:
    """A report on four games of each family, so many of them won."""
    games = {}
    for family, won in wins.items():
        for number in range(4):
            games[f"{family}{number}"] = [number < won]
    return report({"s": games})


def test_a_column_for_each_stage(capsys: pytest.CaptureFixture[str]) -> None:
    reports = {
        "init": four_games(heat=0, pick=1),
        "sft": four_games(heat=2, pick=1),
        "train": four_games(heat=4, pick=3),
    }
    console.print(comparison(reports, stage_titles("gmpo")))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows[1] == ["before", "after", "after"]
    assert rows[4:6] == [
        ["heat", "4", "0.0", "50.0", "100.0"],
        ["pick", "4", "25.0", "25.0", "75.0"],
    ]
    # Wilson's interval of 1, 3 and 7 of 8
    overall = "all (95 % interval) 8 12.5 (2-47) 37.5 (14-69) 87.5 (53-98)"
    assert rows[6] == overall.split()


def test_the_objective_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    titles = stage_titles("dr_grpo")
    assert titles["train"] == "after DR GRPO"
    stages = {stage: four_games(heat=1) for stage in ("init", "sft", "train")}
    console.print(comparison(stages, titles))
    show_before_and_after([episode("a", won=False)], [episode("a", won=True)], titles)
    shown = capsys.readouterr().out
    assert "DR GRPO" in shown
    assert "a: after DR GRPO" in shown
    assert "GMPO" not in shown


def test_the_shortest_game_that_was_gained_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    before = [
        episode("short", won=True, turns=1),
        episode("gained", won=False, turns=3),
        episode("longer", won=False, turns=9),
    ]
    after = [episode("short", won=True), episode("gained", won=True), episode("longer", won=True)]
    show_before_and_after(before, after, stage_titles("gmpo"))
    shown = capsys.readouterr().out
    assert "gained: after the warm start" in shown
    assert "gained: after GMPO" in shown
    assert "longer" not in shown
    # Without a gain, the shortest game of all.
    show_before_and_after(before, before, stage_titles("gmpo"))
    assert "short: after GMPO" in capsys.readouterr().out


def episode(game: str, *, won: bool, turns: int = 1) -> Trajectory:
    return trajectory(
        *(turn() for _ in range(turns)),
        task=Task(env_id="e", split="s", family="f", id=game),
        stop_reason=StopReason.SUCCESS if won else StopReason.MAX_TURNS,
    )
