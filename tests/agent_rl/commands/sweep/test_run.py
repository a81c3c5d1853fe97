"""Going through a sweep, with stand-ins for its processes."""

import json
import sys
from pathlib import Path

import pytest

from agent_rl.commands.sweep.attempt import Attempt, read_attempts
from agent_rl.commands.sweep.plan import Sweep, progress_of_run, read_sweep
from agent_rl.commands.sweep.run import comparison_command, make_plan, run_sweep, show_plan
from agent_rl.config import load_config
from tests.builders.sweeps import STEPS, go, made, stand_in, write_config


def test_every_pass_over_the_variants_ends_in_a_comparison_and_nothing_is_done_twice(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert go(sweep) == (
        0,
        [
            "start new",
            "gmpo-s0 new",
            "fast-s0 new",
            "comparison",
            "gmpo-s4 new",
            "fast-s4 new",
            "comparison",
        ],
    )
    printed = capsys.readouterr().out
    assert "fast-s0 at work\n" in printed
    assert "fast-s4: 50.0 % (9-91) on valid, in " in printed
    assert "3 of 4 runs, 0 failed; about " in printed
    log = (sweep.runs[1].folder / "log.txt").read_text().splitlines()
    assert (log[0].endswith(": new, after rollout step 0"), log[1:]) == (True, ["fast-s0 at work"])
    assert load_config(sweep.runs[1].layout.config_file) == sweep.runs[1].config
    assert go(sweep) == (0, ["comparison"])
    assert "fast-s4: done before, 50.0 % (9-91) on valid" in capsys.readouterr().out


def test_a_seed_more_makes_its_runs_only(sweep: Sweep, tmp_path: Path) -> None:
    go(sweep)
    more = read_sweep(tmp_path / "c.yaml", seeds="0,4,5")
    assert go(more) == (0, ["gmpo-s5 new", "fast-s5 new", "comparison"])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("BREAK", "error: it broke"),
        ("CRASH", "ended by SIGKILL; the system does that if memory"),
    ],
)
def test_a_failed_run_ends_alone_and_is_tried_again(
    how: str,
    why: str,
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(how, "fast-s0")
    status, calls = go(sweep)
    assert (status, calls[2:]) == (
        1,
        ["fast-s0 new", "comparison", "gmpo-s4 new", "fast-s4 new", "comparison"],
    )
    log = sweep.runs[1].folder / "log.txt"
    before = log.read_text()
    printed = capsys.readouterr().out
    assert f"fast-s0 failed: {why}" in printed.split("Comparison up to seed 4")[1]
    assert f"(all of it: {log})" in printed
    show_plan(make_plan(sweep))
    assert f"to do (the last time: {why}" in " ".join(capsys.readouterr().out.split())
    monkeypatch.delenv(how)
    assert go(sweep) == (0, ["fast-s0 new", "comparison", "comparison"])
    assert log.read_text().startswith(before)
    assert log.read_text().count("fast-s0 at work") == 2


def test_no_run_begins_without_its_start(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BREAK", "start")
    assert go(sweep) == (1, ["start new"])


def test_a_failed_comparison_is_in_the_exit_status(sweep: Sweep) -> None:
    fails = [sys.executable, "-c", "1 / 0"]
    assert run_sweep(sweep, command=stand_in, comparison=lambda _: fails) == 1
    assert progress_of_run(sweep.runs[-1]).next_step == "done"


def test_the_comparison_knows_the_variants_that_have_begun(sweep: Sweep) -> None:
    metrics = made(sweep.runs[3]).folder / "train/metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text("")
    assert comparison_command(sweep)[3:] == ["compare", str(sweep.folder)]
    metrics.write_text('{"step": 1}')
    assert comparison_command(sweep)[3:] == [
        "compare",
        str(sweep.folder),
        "--label=fast=fast-s[0-9]*",
    ]


def test_a_grid_has_its_map_in_place_of_the_comparison(tmp_path: Path) -> None:
    grid = {"train.look_ahead": [0, 1]}
    path = write_config(tmp_path, sweep={"seeds": [0], "variants": {"gmpo": {}}, "grid": grid})
    sweep = read_sweep(path, ["train.tasks_per_step=3"], seeds="1,2", only="gmpo-*")
    words = ["sweep", str(path), "train.tasks_per_step=3", "--seeds=1,2", "--only=gmpo-*", "--map"]
    assert comparison_command(sweep)[3:] == words


@pytest.mark.process
def test_what_cannot_be_gone_on_with_is_set_aside(sweep: Sweep) -> None:
    run = made(sweep.runs[0])
    for number in (1, 2):
        (run.folder / "train").mkdir()
        (run.folder / "train/metrics.jsonl").write_text(f"{number}\n")
        (run.folder / "evaluations").mkdir(exist_ok=True)
        run.layout.final_report.unlink(missing_ok=True)
        assert "gmpo-s0 new" in go(sweep)[1]
        assert (
            run.folder / f"train.interrupted-{number}/metrics.jsonl"
        ).read_text() == f"{number}\n"
        (run.folder / "train").rename(sweep.folder / f"made-{number}")
    (sweep.start.folder / "sft").rename(sweep.folder / "gone")
    for job in sweep.runs:
        job.folder.rename(sweep.folder / f"gone-{job.name}")
    go(sweep)
    assert (sweep.folder / "start.interrupted-1/evaluations/final.json").is_file()


def test_the_time_left_comes_from_the_steps_that_were_made(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    """300 s for 6 steps, and 60 s for the last 2 of another run: 45 s a step, and 6 + 4 of them are
    left.
    """
    for run, steps, seconds in zip(
        sweep.runs[:3], (STEPS, 2, 1), (300.0, 60.0, 1000.0), strict=True
    ):
        made(run, checkpoints=(2,), evaluated=run is not sweep.runs[2])
        ended = Attempt(
            started="",
            stage="new",
            steps=steps,
            seconds=seconds,
            exit=run is sweep.runs[2],
            error="it broke",
        )
        (run.folder / "attempts.jsonl").write_text(json.dumps(ended.__dict__) + "\n" + '{"torn": ')
        assert read_attempts(run) == [ended]
    (sweep.start.folder / "sft/model").mkdir(parents=True)
    made(sweep.start, evaluated=True)
    show_plan(make_plan(sweep))
    printed = capsys.readouterr().out
    assert "about 8 min left" in printed
    assert "resumes after rollout step 2 of 6 (the last time: it broke)" in printed
