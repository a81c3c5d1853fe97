"""What people read of an evaluation, to the letter."""

from dataclasses import replace

import pytest
from rich.console import Console

from agent_rl.evaluation.reading import ReadingScore
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.evaluation.rows import reading_lines, repeats_line, truncated_line
from agent_rl.evaluation.scores import (
    GameScore,
    Gap,
    GapScore,
    RepeatScore,
    Score,
    SplitReport,
)
from agent_rl.evaluation.tables import (
    latex,
    markdown,
    markdown_table,
    show,
    split_table,
)

CLEAN, HEAT = "pick_clean_then_place_in_recep", "pick_heat_then_place_in_recep"


def score(
    n: int, *repeats: int, won_in: float | None = 7.25, tokens: float | None = 1234.6
) -> Score:
    """`repeats` are the wins of each; the interval is 0.1 to 1."""
    per_repeat = [
        RepeatScore(n=n, successes=k, success=k / n if n else 0.0, interval=(0.1, 1.0))
        for k in repeats
    ]
    return Score(
        n=n,
        repeats=len(repeats),
        successes=sum(repeats),
        success=sum(repeats) / (n * len(repeats)) if n else 0.0,
        interval=(0.1, 1.0),
        per_repeat=tuple(per_repeat),
        mean_turns=31.04,
        turns_to_success=won_in,
        invalid_action_rate=0.0555,
        tokens_per_episode=tokens,
        agent_tokens_per_episode=tokens,
    )


def part(**families: Score) -> SplitReport:
    return SplitReport(
        overall=score(140, 117, 121, 124),
        families=families,
        games=(GameScore(id="g", family=CLEAN, success=(True,), turns=(7,)),),
        stop_reasons={},
        failures={"env_error": 2},
    )


def report(env: str = "alfworld", *, gap: bool = True) -> EvaluationReport:
    setting = {
        "model": "runs/a_b/train/checkpoints/step-000050/model",
        "temperature": 0.4,
        "seed": 0,
        "repeats": 3,
    }
    seen = part(**{CLEAN: score(100, 90), HEAT: score(0, 0, won_in=None, tokens=None)})
    difference = GapScore(difference=0.021, interval=(-0.0504, 0.0912))
    return EvaluationReport(
        setting={**setting, "env": env, "weights": None},
        splits={
            "valid_seen": seen,
            **({"valid_unseen": part(**{CLEAN: score(10, 9)})} if gap else {}),
        },
        gap=Gap(
            splits=("valid_seen", "valid_unseen"), overall=difference, families={CLEAN: difference}
        )
        if gap
        else None,
    )


def test_the_table_fits_a_terminal() -> None:
    narrow = Console(width=80)
    with narrow.capture() as shown:
        table = part(**{CLEAN: score(100, 90), HEAT: score(1340, 1, won_in=None)})
        narrow.print(split_table(table, "step 50 [on seen]"))
    lines = [line.rstrip() for line in shown.get().splitlines()]
    assert lines[0] == "step 50 [on seen]"
    assert lines[1].split() == ["success", "95", "%", "to", "invalid"]
    assert lines[4].split() == [CLEAN, "100", "90.0", "10.0-100.0", "31.0", "7.2", "5.5", "1,235"]
    assert lines[5].split() == [HEAT, "1340", "0.1", "10.0-100.0", "31.0", "-", "5.5", "1,235"]
    assert lines[7].split()[:3] == ["all", "140", "86.2"]


def test_repeats_and_gap_stand_below(capsys: pytest.CaptureFixture[str]) -> None:
    show(report(), "mine")
    shown = capsys.readouterr().out
    assert "mine on valid_seen, T = 0.4" in shown
    assert (
        shown.count(
            "repeats: 83.6 86.4 88.6\n"
            "not scored, as they say nothing about the policy: 2 env_error\n"
        )
        == 2
    )
    assert "valid_seen - valid_unseen, in points" in shown
    assert shown.splitlines()[-1].split() == ["all", "+2.1", "-5.0", "to", "+9.1"]
    assert repeats_line(part()) == "repeats: 83.6 86.4 88.6"
    once = replace(part(), overall=score(10, 9))
    assert repeats_line(once) == ""
    show(report(gap=False), "mine")
    assert "in points" not in capsys.readouterr().out


def test_markdown_to_the_letter() -> None:
    head = (
        "| family | n | success % | 95 % interval | turns | turns to success | invalid % | tokens |"
    )
    rule = "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert (
        markdown(report(), "Mine")
        == f"""\
# Mine

model runs/a_b/train/checkpoints/step-000050/model, temperature 0.4, seed 0, repeats 3

## valid_seen

{head}
{rule}
| {CLEAN} | 100 | 90.0 | 10.0-100.0 | 31.0 | 7.2 | 5.5 | 1,235 |
| {HEAT} | 0 | 0.0 | 10.0-100.0 | 31.0 | - | 5.5 | - |
| **all** | 140 | 86.2 | 10.0-100.0 | 31.0 | 7.2 | 5.5 | 1,235 |

Repeats: 83.6 86.4 88.6.

Not scored, as they say nothing about the policy: 2 env_error.

## valid_unseen

{head}
{rule}
| {CLEAN} | 10 | 90.0 | 10.0-100.0 | 31.0 | 7.2 | 5.5 | 1,235 |
| **all** | 140 | 86.2 | 10.0-100.0 | 31.0 | 7.2 | 5.5 | 1,235 |

Repeats: 83.6 86.4 88.6.

Not scored, as they say nothing about the policy: 2 env_error.

## valid_seen - valid_unseen

| family | points | 95 % interval |
| --- | --- | --- |
| {CLEAN} | +2.1 | -5.0 to +9.1 |
| **all** | +2.1 | -5.0 to +9.1 |
"""
    )


def test_latex_has_the_fields_columns() -> None:
    comment, row, *rest = latex(report(), "step_50 & more").splitlines()
    assert comment.startswith(
        "% valid_seen, model runs/a_b/train/checkpoints/step-000050/model, temperature 0.4, "
    )
    assert comment.endswith(": name & Pick & Look & Clean & Heat & Cool & Pick2 & All")
    cell, overall = "$90.0_{[10.0, 100.0]}$", "$86.2_{[10.0, 100.0]}$"
    assert row == rf"step\_50 \& more & -- & -- & {cell} & -- & -- & -- & {overall} \\"
    assert len(rest) == 2


def test_latex_of_other_worlds_names_its_columns() -> None:
    comment, row = latex(report("taxi", gap=False), r"a\b{c}").splitlines()
    assert comment.endswith(rf": name & {CLEAN} & {HEAT} & All".replace("_", r"\_"))
    assert row.startswith(r"a\textbackslash b\{c\} & $90.0")
    assert row.count("&") == 3


def test_a_markdown_cell_stays_on_its_line() -> None:
    table = markdown_table(("a", "b"), [("x | y", "1\n2"), (True, [1, "z"])])
    assert table == '| a | b |\n| --- | --- |\n| x \\| y | 1<br>2 |\n| true | [1, "z"] |'


def test_actions_that_were_cut_off_stand_below(capsys: pytest.CaptureFixture[str]) -> None:
    overall = replace(score(140, 117), truncated_action_rate=0.125)
    cut = replace(report(gap=False), splits={"s": replace(part(), overall=overall)})
    show(cut, "mine")
    assert "\nactions cut off by their token limit: 12.5 %\n" in capsys.readouterr().out
    assert "\n\nActions cut off by their token limit: 12.5 %.\n" in markdown(cut, "Mine")
    # Unknown in reports of earlier versions.
    assert truncated_line(part()) == ""
    whole = replace(part(), overall=replace(overall, truncated_action_rate=0.0))
    assert truncated_line(whole) == ""


def test_shares_of_reading_stand_below_if_they_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reading_lines(part()) == []
    score = ReadingScore(unlisted_furniture=0.28, unseen_things=None, repeated_refusals=0.25)
    known = replace(part(), reading=score)
    assert reading_lines(known) == [
        "commands that go to furniture that the texts do not list: 28.0 %",
        "invalid commands that repeat the one before: 25.0 %",
    ]
    show(replace(report(gap=False), splits={"valid_seen": known}), "mine")
    assert "do not list: 28.0 %\n" in capsys.readouterr().out
