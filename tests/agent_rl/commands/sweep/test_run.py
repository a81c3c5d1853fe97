"""What a sweep plans from its config and its folders; how it goes through its runs, with a process
that takes no time in the place of a training; and one real sweep that is killed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from agent_rl.commands.sweep.attempt import Attempt, alone_in, read_attempts
from agent_rl.commands.sweep.plan import (
    Job,
    Standing,
    Sweep,
    last_checkpoint,
    read_sweep,
    standing,
    start_standing,
)
from agent_rl.commands.sweep.run import comparison_command, make_plan, run_sweep, show_plan
from agent_rl.config import ConfigError, dump_config, load_config
from tests.builders.paths import ROOT

STEPS = 6
BASE: dict[str, Any] = {
    "seed": 7,
    "env": {"id": "guess-the-number"},
    "learner": {"learning_rate": 1e-3},
    "train": {"rollout_steps": STEPS, "tasks_per_step": 2, "num_generations": 4},
    "sweep": {
        "seeds": [0, 4],
        "variants": {
            "gmpo": {},
            "fast": {"learner.objective": "grpo", "learner.learning_rate": 2e-4},
        },
    },
}
REPORT = {"splits": {"valid": {"overall": {"success": 0.5, "interval": [0.4, 0.6]}}}}


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "c.yaml"
    path.write_text(
        yaml.safe_dump({"run_folder": str(folder / "sweep"), **BASE, **changes}, sort_keys=False)
    )
    return path


def with_variants(folder: Path, **variants: dict[str, Any]) -> Path:
    return write_config(folder, sweep={"variants": variants})


# Which runs there are.


def test_the_seeds_are_outside_and_every_run_starts_from_the_same_policy(tmp_path: Path) -> None:
    sweep = read_sweep(write_config(tmp_path), ["train.tasks_per_step=3"])
    assert [run.name for run in sweep.runs] == ["gmpo-s0", "fast-s0", "gmpo-s4", "fast-s4"]
    assert [run.config.seed for run in sweep.runs] == [0, 0, 4, 4]
    assert [run.config.learner.objective for run in sweep.runs] == ["gmpo", "grpo", "gmpo", "grpo"]
    assert [run.config.learner.learning_rate for run in sweep.runs] == [1e-3, 2e-4, 1e-3, 2e-4]
    assert {run.config.model.path for run in sweep.runs} == {f"{tmp_path}/sweep/start/sft/model"}
    assert [run.folder for run in sweep.runs[:2]] == [
        tmp_path / "sweep/gmpo-s0",
        tmp_path / "sweep/fast-s0",
    ]
    assert {run.config.train.tasks_per_step for run in sweep.runs} == {3}
    assert {run.config.sweep for run in sweep.runs} == {None}
    start = sweep.start.config
    assert (start.run_folder, start.seed, start.model.path) == (f"{tmp_path}/sweep/start", 7, "")


def test_a_policy_that_the_config_names_is_the_start(tmp_path: Path) -> None:
    sweep = read_sweep(write_config(tmp_path, model={"path": "some/policy"}))
    assert {job.config.model.path for job in (sweep.start, *sweep.runs)} == {"some/policy"}


def test_objectives_and_seeds_of_the_command_line_replace_those_of_the_file(tmp_path: Path) -> None:
    sweep = read_sweep(write_config(tmp_path), objectives="gspo, dr_grpo", seeds="2,1")
    assert [run.name for run in sweep.runs] == ["gspo-s2", "dr_grpo-s2", "gspo-s1", "dr_grpo-s1"]
    assert sweep.runs[1].config.learner.objective == "dr_grpo"
    with pytest.raises(ConfigError, match="--seeds 1,b: write numbers with commas between"):
        read_sweep(write_config(tmp_path), seeds="1,b")
    with pytest.raises(ConfigError, match=r"sweep\.seeds: .*write different numbers"):
        read_sweep(write_config(tmp_path), seeds="1,1")
    with pytest.raises(
        ConfigError,
        match=r"c\.yaml: sweep\.variants\.gmp: learner\.objective: 'gmp': Input should be",
    ):
        read_sweep(write_config(tmp_path), objectives="gmpo,gmp")


def test_a_sweep_without_variants_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, sweep={"seeds": [0]})
    with pytest.raises(
        ConfigError, match=r"sweep\.variants: there is none; .* --objectives gmpo,grpo"
    ):
        read_sweep(path)
    assert len(read_sweep(path, objectives="gmpo").runs) == 1


def test_a_typo_in_the_last_variant_names_the_variant_and_the_key(tmp_path: Path) -> None:
    path = with_variants(tmp_path, one={}, two={"learner.objectiv": "grpo"})
    with pytest.raises(ConfigError) as refused:
        read_sweep(path)
    assert str(refused.value) == (
        f"{path}: sweep.variants.two: learner.objectiv: unknown key; did you mean 'objective'?"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 3, "seed: the sweep sets it"),
        ("run_folder", "x", "run_folder: the sweep sets it"),
        ("sweep.seeds", [1], "sweep.seeds: the sweep sets it"),
        ("learner", {"objective": "grpo"}, "learner: write the whole key with dots"),
        ("sft.epochs", 9, "sft.epochs: all runs start from the same warm start"),
        ("model.layers", 9, "model.layers: all runs train the same policy"),
        ("model.path", "x", "model.path: all runs train the same policy"),
        ("evaluation.temperature", 1.0, "evaluation.temperature: all runs are evaluated alike"),
        ("learner.epsilon", 0, "learner.epsilon: 0: Input should be greater than 0"),
    ],
)
def test_what_a_variant_may_not_set(key: str, value: Any, message: str, tmp_path: Path) -> None:
    path = with_variants(tmp_path, fine={}, odd={key: value})
    with pytest.raises(ConfigError) as refused:
        read_sweep(path)
    assert str(refused.value).startswith(f"{path}: sweep.variants.odd: {message}")


def test_a_variant_may_be_an_adapter(tmp_path: Path) -> None:
    sweep = read_sweep(with_variants(tmp_path, whole={}, adapter={"model.lora": {"rank": 2}}))
    assert [
        run.config.model.lora.rank if run.config.model.lora else 0 for run in sweep.runs[:2]
    ] == [0, 2]


def test_two_variants_that_are_the_same_are_refused_before_they_are_compared(
    tmp_path: Path,
) -> None:
    same = {"learner.objective": "gmpo", "workers.count": 1}
    with pytest.raises(ConfigError, match=r"c\.yaml: sweep\.variants: plain and gmpo are the same"):
        read_sweep(with_variants(tmp_path, grpo={"learner.objective": "grpo"}, plain={}, gmpo=same))


def test_a_variants_name_is_a_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'a/b' is part of a folder's name"):
        read_sweep(with_variants(tmp_path, **{"a/b": {}}))


# How far they are.


def made(
    job: Job, *, checkpoints: tuple[int, ...] = (), report: bool = False, **changes: Any
) -> Job:
    """Write what a job leaves behind, made with `changes` of its config."""
    job.folder.mkdir(parents=True, exist_ok=True)
    values = {
        key: {**getattr(job.config, key).model_dump(), **part} for key, part in changes.items()
    }
    job.config_file.write_text(
        dump_config(type(job.config).model_validate({**job.config.model_dump(), **values}))
    )
    for step in checkpoints:
        folder = job.folder / f"train/checkpoints/step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
    if report:
        job.report.parent.mkdir(exist_ok=True)
        job.report.write_text(json.dumps(REPORT))
    return job


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return read_sweep(write_config(tmp_path))


def test_a_run_goes_on_from_its_newest_checkpoint(sweep: Sweep) -> None:
    run = sweep.runs[0]
    assert standing(run) == Standing(stage="new")
    made(run)
    metrics = run.folder / "train/metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text('{"step": 1}\n')
    (run.folder / "train/checkpoints/step-000002.tmp-17").mkdir(parents=True)
    (run.folder / "train/checkpoints/step-000002.tmp-17/state.json").write_text("{}")
    assert standing(run) == Standing(stage="new")
    made(run, checkpoints=(2, 4))
    assert standing(run) == Standing(stage="resume", step=4)
    made(run, checkpoints=(STEPS,))
    assert standing(run) == Standing(stage="evaluate", step=STEPS)
    run.report.parent.mkdir()
    run.report.write_text("")  # as after the machine died
    assert standing(run).stage == "evaluate"
    made(run, report=True)
    assert standing(run) == Standing(stage="done", step=STEPS)


@pytest.mark.parametrize("report", [True, False])
def test_a_run_that_was_made_with_another_config_is_refused(report: bool, sweep: Sweep) -> None:
    run = made(sweep.runs[1], checkpoints=(4,), report=report, learner={"max_grad_norm": 0.5})
    with pytest.raises(ConfigError) as refused:
        standing(run)
    assert str(refused.value) == (
        f"{run.config_file}: learner.max_grad_norm: fast-s0 was made with 0.5, and the config now says 1.0; set it "
        f"back, or name another run_folder=..., or delete {run.folder} to make it anew"
    )


def test_a_run_without_a_checkpoint_takes_any_config(sweep: Sweep) -> None:
    assert standing(made(sweep.runs[0], learner={"max_grad_norm": 0.5})).stage == "new"


def test_a_setting_that_was_added_is_a_change_too(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(4,), model={"lora": {"rank": 4}})
    with pytest.raises(
        ConfigError,
        match=r"model\.lora\.\w+: gmpo-s0 was made with .*, and the config now says None",
    ):
        standing(run)


def test_what_a_machine_needs_may_change_on_the_way(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(4,), workers={"count": 7}, train={"checkpoint_every": 3})
    assert standing(run).stage == "resume"


def test_the_evaluation_may_change_until_it_is_there(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(STEPS,), evaluation={"temperature": 1.0})
    assert standing(run).stage == "evaluate"
    made(run, report=True, evaluation={"temperature": 1.0})
    with pytest.raises(
        ConfigError,
        match=rf"made with 1\.0, .* 0\.4; .* or delete {run.report} to evaluate it anew",
    ):
        standing(run)


def test_a_sweep_that_was_moved_is_the_same(sweep: Sweep, tmp_path: Path) -> None:
    made(sweep.runs[0], checkpoints=(4,))
    sweep.folder.rename(tmp_path / "moved")
    moved = read_sweep(tmp_path / "c.yaml", [f"run_folder={tmp_path}/moved"])
    assert standing(moved.runs[0]) == Standing(stage="resume", step=4)


def test_the_start_is_whole_or_made_anew(sweep: Sweep) -> None:
    assert start_standing(sweep).stage == "new"
    made(sweep.start)
    (sweep.start.folder / "init").mkdir()
    (sweep.start.folder / "sft/model.partial").mkdir(parents=True)
    assert start_standing(sweep).stage == "new"
    (sweep.start.folder / "sft/model").mkdir()
    assert start_standing(sweep).stage == "evaluate"
    made(sweep.start, report=True)
    assert start_standing(sweep).stage == "done"
    made(sweep.start, sft={"epochs": 9})
    with pytest.raises(
        ConfigError, match=r"sft\.epochs: start was made with 9, and the config now says 4"
    ):
        start_standing(sweep)


def test_a_start_is_not_made_anew_under_runs_that_began_with_it(sweep: Sweep) -> None:
    made(sweep.runs[1], checkpoints=(4,))
    with pytest.raises(
        ConfigError,
        match=rf"start/sft/model: the policy that {sweep.runs[1].folder} was trained from",
    ):
        start_standing(sweep)


def test_a_named_policy_is_evaluated_and_not_made(tmp_path: Path) -> None:
    sweep = read_sweep(write_config(tmp_path, model={"path": "some/policy"}))
    assert start_standing(sweep).stage == "evaluate"
    made(sweep.start, report=True)
    made(sweep.runs[0], checkpoints=(4,))
    assert start_standing(sweep).stage == "done"
    other = read_sweep(write_config(tmp_path, model={"path": "other/policy"}))
    with pytest.raises(ConfigError, match=r"model\.path: start was made with 'some/policy'"):
        start_standing(other)
    with pytest.raises(ConfigError, match=r"model\.path: gmpo-s0 was made with 'some/policy'"):
        standing(other.runs[0])


# Going through them, with a process that takes no time.

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
name, stage, config = sys.argv[1:]
folder = Path(config).parent
with (folder.parent / "calls.txt").open("a") as calls:
    calls.write(f"{name} {stage}\\n")
print(f"{name} at work", flush=True)
if name == os.environ.get("BREAK"):
    print("error: it broke", file=sys.stderr)
    sys.exit(2)
if name == os.environ.get("CRASH"):
    os.kill(os.getpid(), signal.SIGKILL)
if name == "start":
    (folder / "sft/model").mkdir(parents=True)
else:
    (folder / "train/checkpoints/step-000004").mkdir(parents=True, exist_ok=True)
    (folder / "train/checkpoints/step-000004/state.json").write_text("{}")
if name == os.environ.get("WAIT"):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print("waiting", flush=True)
        time.sleep(100)
    except KeyboardInterrupt:
        time.sleep(0.5)
        print("closed", flush=True)
        sys.exit(130)
(folder / "evaluations").mkdir(exist_ok=True)
(folder / "evaluations/final.json").write_text(json.dumps(%r))
""" % (REPORT,)  # noqa: UP031
COMPARE = "import sys; from pathlib import Path; Path(sys.argv[1], 'calls.txt').open('a').write('comparison\\n')"


def command(job: Job, stands: Standing) -> list[str]:
    return [sys.executable, "-c", STAND_IN, job.name, stands.stage, str(job.config_file)]


def comparison(sweep: Sweep) -> list[str]:
    return [sys.executable, "-c", COMPARE, str(sweep.folder)]


def go(sweep: Sweep) -> tuple[int, list[str]]:
    """Go through a sweep; its exit status, and the processes that it started."""
    calls = sweep.folder / "calls.txt"
    calls.unlink(missing_ok=True)
    status = run_sweep(sweep, command=command, comparison=comparison)
    return status, calls.read_text().splitlines()


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
    assert "fast-s4: 50.0 % (40-60) on valid, in " in printed
    assert "3 of 4 runs, 0 failed; about " in printed
    log = (sweep.runs[1].folder / "log.txt").read_text().splitlines()
    assert (log[0].endswith(": new, after rollout step 0"), log[1:]) == (True, ["fast-s0 at work"])
    assert load_config(sweep.runs[1].config_file) == sweep.runs[1].config
    assert go(sweep) == (0, ["comparison"])
    assert "fast-s4: done before, 50.0 % (40-60) on valid" in capsys.readouterr().out


def test_a_seed_more_makes_its_runs_only(sweep: Sweep, tmp_path: Path) -> None:
    go(sweep)
    more = read_sweep(tmp_path / "c.yaml", seeds="0,4,5")
    assert go(more) == (0, ["gmpo-s5 new", "fast-s5 new", "comparison"])


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("BREAK", "error: it broke"),
        ("CRASH", "ended by SIGKILL; the system does that where memory"),
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
    assert (
        run_sweep(sweep, command=command, comparison=lambda _: [sys.executable, "-c", "1 / 0"]) == 1
    )
    assert standing(sweep.runs[-1]).stage == "done"


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


def test_what_cannot_be_gone_on_with_is_set_aside(sweep: Sweep) -> None:
    run = made(sweep.runs[0])
    for number in (1, 2):
        (run.folder / "train").mkdir()
        (run.folder / "train/metrics.jsonl").write_text(f"{number}\n")
        (run.folder / "evaluations").mkdir(exist_ok=True)
        run.report.unlink(missing_ok=True)
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
        made(run, checkpoints=(2,), report=run is not sweep.runs[2])
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
    made(sweep.start, report=True)
    show_plan(make_plan(sweep))
    printed = capsys.readouterr().out
    assert "about 8 min left" in printed
    assert "goes on after rollout step 2 of 6 (the last time: it broke)" in printed


def test_a_folder_is_one_sweeps(sweep: Sweep) -> None:
    with (
        alone_in(sweep.folder) as lock,
        pytest.raises(ConfigError, match="another sweep is at work there"),
        alone_in(sweep.folder, wait_seconds=0.0),
    ):
        pass
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(lock)
    with alone_in(sweep.folder, wait_seconds=0.0):
        pass


DRIVER = """
import sys
from tests.agent_rl.commands.sweep.test_run import command, comparison, read_sweep, run_sweep
sys.exit(run_sweep(read_sweep(sys.argv[1]), command=command, comparison=comparison))
"""


def driver(sweep: Sweep, config: Path, *, wait: str) -> subprocess.Popen[str]:
    """A sweep in a process group of its own, as at a terminal, whose run `wait` has begun and
    waits.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(config)],
        env={**os.environ, "WAIT": wait, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = sweep.folder / wait / "log.txt"
    wait_for(lambda: log.is_file() and "waiting" in log.read_text(), 60)
    return process


@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)]
)
def test_ctrl_c_stops_the_present_run_and_says_how_to_go_on(
    send: Callable[[int, int], None], number: int, sweep: Sweep, tmp_path: Path
) -> None:
    process = driver(sweep, tmp_path / "c.yaml", wait="fast-s0")
    (run,) = psutil.Process(process.pid).children()
    assert os.getpgid(run.pid) == run.pid, "Ctrl-C at the terminal would reach the run twice"
    send(process.pid, number)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (sweep.folder / "fast-s0/log.txt").read_text().endswith("waiting\nclosed\n")
    assert "the same command goes on from there" in printed.replace("\n", " ")
    assert read_attempts(sweep.runs[1])[-1].error == "stopped"
    assert go(sweep)[1][:2] == ["fast-s0 resume", "comparison"]
    assert [(one.stage, one.steps, one.exit) for one in read_attempts(sweep.runs[1])] == [
        ("new", STEPS, 130),
        ("resume", STEPS - 4, 0),
    ]


def test_the_run_of_a_killed_sweep_holds_the_folder_while_it_is_there(
    sweep: Sweep, tmp_path: Path
) -> None:
    process = driver(sweep, tmp_path / "c.yaml", wait="gmpo-s0")
    process.kill()
    process.communicate(timeout=60)
    with (
        pytest.raises(ConfigError, match="another sweep is at work"),
        alone_in(sweep.folder, wait_seconds=0.0),
    ):
        pass
    (orphan,) = [
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if (one.info["cmdline"] or [])[-3:] == ["gmpo-s0", "new", str(sweep.runs[0].config_file)]
    ]
    os.kill(orphan, signal.SIGKILL)
    with alone_in(sweep.folder):
        pass


# A real one.

REAL = """
run_folder: sweep
env: {id: guess-the-number}
model: {vocab_size: 400, hidden_size: 64, layers: 1, heads: 2, kv_heads: 2, corpus_tasks: 4}
episode: {max_turns: 4, max_action_tokens: 8}
workers: {count: 1, envs_per_worker: 8}
serving: {kv_cache_gib: 0.1, max_concurrent: 8}
sft: {episodes: 8, epochs: 1, batch_episodes: 4}
learner: {optimizer_steps: 2, learning_rate: 1.0e-3, threads: 1}
train: {rollout_steps: 8, tasks_per_step: 2, num_generations: 4, checkpoint_every: 1, eval_every: 4}
evaluation: {split: valid, tasks: 4}
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_sweep_that_is_killed_in_its_second_run_goes_on_there(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(REAL)
    first, second = tmp_path / "sweep/gmpo-s0", tmp_path / "sweep/grpo-s0"
    process = real_sweep(tmp_path)
    try:
        wait_for(lambda: process.poll() is not None or last_checkpoint(second / "train") > 0, 400)
    finally:
        process.kill()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, printed
    before = {
        path: path.read_bytes()
        for path in (first / "evaluations/final.json", first / "attempts.jsonl")
    }
    metrics = (second / "train/metrics.jsonl").read_text().splitlines()
    process = real_sweep(tmp_path)
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert "gmpo-s0: done before" in printed
    assert {path: path.read_bytes() for path in before} == before
    resumed = re.search(r"resumed from sweep/grpo-s0/train/checkpoints/step-(\d+)", printed)
    assert resumed, printed
    (ended,) = map(json.loads, (second / "attempts.jsonl").read_text().splitlines())
    assert (ended["stage"], ended["steps"], ended["exit"]) == ("resume", 8 - int(resumed[1]), 0)
    after = (second / "train/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in after] == list(range(1, 9))
    assert after[0] == metrics[0]
    assert len((tmp_path / "sweep/start/attempts.jsonl").read_text().splitlines()) == 1
    games = [
        [
            game["id"]
            for game in json.loads((folder / "evaluations/final.json").read_text())["splits"][
                "valid"
            ]["games"]
        ]
        for folder in (first, second, tmp_path / "sweep/start")
    ]
    assert games[0] == games[1] == games[2]
    for folder in (
        first,
        second,
    ):  # the last rollout step is evaluated once, and that is the final evaluation
        assert [file.name for file in (folder / "train/evaluations").iterdir()] == [
            "step-000004.json"
        ]
    compared = json.loads((tmp_path / "sweep/comparison.json").read_text())
    assert not [
        note for note in compared["notes"] if "this evaluation of its policy counts" in note
    ]
    assert [variant["label"] for variant in compared["variants"]] == ["gmpo", "grpo"]


def real_sweep(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "agent_rl.cli",
            "sweep",
            "c.yaml",
            "--objectives",
            "gmpo,grpo",
            "--seeds",
            "0",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for(what: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)
