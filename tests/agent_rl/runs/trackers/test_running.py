"""Trackers that are down, slow, dead or fine, in real processes. A module of the test's own stands
for the package: it does what a package may do to a run.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_rl.config import load_run_config
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.follower import Told
from agent_rl.runs.trackers.running import RunningTrackers
from tests.builders.paths import ROOT
from tests.builders.tracked_runs import log_step, tracked_stage

pytestmark = pytest.mark.process

STARTED = 30.0
"""Most seconds that a process may take to start and tell; a busy machine is slow."""

WANDB = """
import json, os, time
class Settings:
    def __init__(self, **values): pass
class Table: pass
def write(*what):
    with open(os.environ["TOLD"], "a") as file:
        file.write(json.dumps(what) + "\\n")
class Run:
    def log(self, metrics, step):
        write(step, metrics)
    def finish(self, exit_code):
        {finish}
        write("finish", exit_code)
def init(**values):
    {init}
    print("noise of the package")
    return Run()
"""

Start = Callable[..., RunningTrackers]


@pytest.fixture
def stage(tmp_path: Path) -> StageLayout:
    return tracked_stage(tmp_path / "r", steps=2, trackers="wandb", finish_seconds=2.0)


@pytest.fixture
def start(tmp_path: Path, stage: StageLayout, monkeypatch: pytest.MonkeyPatch) -> Start:
    def started(init: str = "pass", finish: str = "pass") -> RunningTrackers:
        package = WANDB.replace("{init}", init).replace("{finish}", finish)
        (tmp_path / "wandb.py").write_text(package)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
        monkeypatch.setenv("TOLD", str(tmp_path / "told"))
        return RunningTrackers(stage, load_run_config(stage.config_file))

    return started


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + STARTED
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def told(folder: Path) -> list[list[object]]:
    return [json.loads(line) for line in (folder / "told").read_text().splitlines()]


def test_a_tracker_is_told_while_the_run_goes_on_and_at_its_end(
    tmp_path: Path, stage: StageLayout, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers = start()
    wait_for(lambda: Told.read(stage, "wandb").step == 2)
    log_step(stage, 3)
    trackers.close(complete=True)
    assert [step for step, _ in told(tmp_path)] == [1, 2, 3, "finish"]
    assert told(tmp_path)[2:] == [[3, {"rollout/success": 0.3}], ["finish", 0]]
    assert capsys.readouterr().out == ""
    assert "noise of the package" in stage.tracker_log("wandb").read_text()


def test_a_tracker_that_is_down_is_said_once_with_its_reason(
    stage: StageLayout, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers = start(init="raise ConnectionError('no route [b]to[/b] host')")
    wait_for(lambda: "no route" in stage.tracker_log("wandb").read_text())
    trackers.close(complete=False)
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "tracker wandb: ConnectionError: no route [b]to[/b] host; the run goes on without it, and "
        "it is tried again"
    )
    assert second.startswith("tracker wandb: 2 steps are not told, ")
    assert str(stage.metrics_file) in second


@pytest.mark.parametrize("place", ["init", "finish"])
def test_a_tracker_that_never_answers_is_left_after_its_time(
    tmp_path: Path,
    stage: StageLayout,
    start: Start,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    before = time.monotonic()
    trackers = start(**{place: "write('begun'); time.sleep(1000)"})
    assert time.monotonic() - before < 1.0, "the run waited for the start of a tracker"
    if place == "finish":
        wait_for(lambda: Told.read(stage, "wandb").step == 2)
    else:
        wait_for((tmp_path / "told").is_file)
    closing = time.monotonic()
    trackers.close(complete=True)
    # After 2 s the process ends itself, and after 5 s it is killed.
    assert 1.5 < time.monotonic() - closing < 6.0
    left = 2 if place == "init" else 0
    out = capsys.readouterr().out
    assert f"has not finished 2 s after the end, and is left: {left} steps are not told" in out


def test_a_tracker_that_dies_takes_nothing_with_it(
    stage: StageLayout, start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    trackers = start(init="os._exit(7)")
    out = ""

    def said() -> bool:
        nonlocal out
        out += capsys.readouterr().out
        return "its process died (status 7)" in out

    wait_for(said)
    trackers.close(complete=True)
    assert capsys.readouterr().out == ""
