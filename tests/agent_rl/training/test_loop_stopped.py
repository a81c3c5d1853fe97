"""A run that a signal or an error ends keeps its last whole step, and goes on from it."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agent_rl.training.loop import TrainingLoop
from agent_rl.training.stopping import stops_on_signals
from tests.builders.scripted_session import ScriptedSession, scripted_loop
from tests.builders.tiny_learner import weights_of

STEPS = 6


def at_step(loop: TrainingLoop, step: int, do: Callable[[], None]) -> Callable[[], None]:
    """A function that calls `do` while the loop is at the rollout step after `step`."""
    return lambda: do() if loop.step == step else None


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def fail() -> None:
    raise RuntimeError("the engine is gone")


def logged(folder: Path) -> list[int]:
    lines = (folder / "train" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def saved(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "train" / "checkpoints").glob("*"))


@pytest.fixture
def unbroken(tmp_path: Path) -> ScriptedSession:
    """The session of a run that nothing ended."""
    loop, session = scripted_loop(tmp_path / "unbroken")
    assert loop.train() == tmp_path / "unbroken/train/checkpoints/step-000006"
    loop.close()
    return session


def test_a_signal_while_episodes_play_ends_them_and_keeps_the_step_before(
    tmp_path: Path, unbroken: ScriptedSession, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)
    session.on_play = at_step(loop, 2, terminate)
    with pytest.raises(SystemExit) as end, stops_on_signals():
        loop.train()
    loop.close()
    assert end.value.code == 128 + signal.SIGTERM
    checkpoint = tmp_path / "train/checkpoints/step-000002"
    assert saved(tmp_path) == [checkpoint.name]
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"stopped by SIGTERM: saved is {checkpoint}; `agent-rl train CONFIG --resume` goes on from "
        "it"
    )
    resumed, again = scripted_loop(tmp_path, checkpoint)
    resumed.train()
    resumed.close()
    # The task that was dealt for the step that was stopped is dealt again.
    assert session.played[:2] + again.played == unbroken.played
    assert torch.equal(weights_of(again.model), weights_of(unbroken.model))
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_a_signal_in_an_update_waits_for_the_end_of_the_step(tmp_path: Path) -> None:
    loop, session = scripted_loop(tmp_path)
    session.on_sync = at_step(loop, 2, terminate)
    with pytest.raises(SystemExit), stops_on_signals():
        loop.train()
    loop.close()
    assert (logged(tmp_path), saved(tmp_path)) == ([1, 2, 3], ["step-000003"])
    assert len(session.played) == 3


def test_an_error_after_an_update_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)

    def lose_engine() -> None:
        session.on_usage = fail
        fail()

    session.on_sync = at_step(loop, 2, lose_engine)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        loop.train()
    loop.close()
    assert (logged(tmp_path), saved(tmp_path)) == ([1, 2, 3], ["step-000003"])
    assert "ended early: saved is " in capsys.readouterr().out


def test_the_engine_sleeps_during_an_update_and_loses_nothing_if_it_dies_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, session = scripted_loop(tmp_path)
    order: list[str] = []
    update = loop.learner.update

    def noted(samples: object) -> object:
        order.append("update")
        return update(samples)  # type: ignore[arg-type]

    def sleep() -> None:
        order.append("sleep")
        if loop.step == 2:
            fail()

    monkeypatch.setattr(loop.learner, "update", noted)
    session.on_sleep, session.on_sync = sleep, lambda: order.append("sync")
    with pytest.raises(RuntimeError, match="the engine is gone"):
        loop.train()
    loop.close()
    assert order == ["sleep", "update", "sync"] * 2 + ["sleep"]
    # The third step's update had not begun.
    assert saved(tmp_path) == ["step-000002"]


def test_a_caller_that_goes_on_after_an_error_is_told_of_no_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)
    session.on_sync = at_step(loop, 2, fail)
    judged: list[BaseException] = []

    def goes_on(error: BaseException) -> bool:
        judged.append(error)
        return True

    with pytest.raises(RuntimeError, match="the engine is gone") as raised:
        loop.train(goes_on=goes_on)
    loop.close()
    assert judged == [raised.value]
    assert saved(tmp_path) == []
    assert "ended early" not in capsys.readouterr().out


def test_half_an_update_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path, checkpoint_every=1)
    update = loop.learner.update

    def half(samples: list[object]) -> object:
        if loop.step == 2:
            raise FloatingPointError("the loss is nan")
        return update(samples)  # type: ignore[arg-type]

    monkeypatch.setattr(loop.learner, "update", half)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        loop.train()
    loop.close()
    assert (logged(tmp_path), saved(tmp_path)) == ([1, 2], ["step-000001", "step-000002"])
    assert "ended early: saved is " in capsys.readouterr().out
    assert len(session.played) == 3


def test_a_save_that_fails_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)
    session.on_play = at_step(loop, 2, fail)

    def full(_: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(loop.learner, "save", full)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        loop.train()
    loop.close()
    assert saved(tmp_path) == []
    assert "rollout step 2 could not be saved (no space left); no rollout step is saved" in (
        capsys.readouterr().out
    )


def test_a_checkpoint_waits_for_the_episodes(tmp_path: Path) -> None:
    """A signal comes while the episodes of the last whole step are being written to a slow disk."""
    loop, session = scripted_loop(tmp_path)
    slow = loop.run.layout.step_episodes(2)
    os.mkfifo(slow)
    saved_before: list[str] = []

    def read() -> None:
        time.sleep(0.5)  # longer than a checkpoint of the tiny model takes
        saved_before.extend(saved(tmp_path))
        slow.read_bytes()

    reader = threading.Thread(target=read)

    def stop() -> None:
        reader.start()
        terminate()

    session.on_play = at_step(loop, 2, stop)
    with pytest.raises(SystemExit), stops_on_signals():
        loop.train()
    reader.join()
    assert (saved_before, saved(tmp_path)) == ([], ["step-000002"])
    loop.close()


def test_a_full_disk_for_episodes_ends_the_run_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, _ = scripted_loop(tmp_path)
    full = loop.run.layout.step_episodes(2)
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as raised:
        loop.train()
    loop.close()
    assert raised.value.filename == str(full)
    (last,) = saved(tmp_path)
    assert last == f"step-{loop.step:06d}"
    assert loop.step >= 2
    assert "ended early: saved is " in capsys.readouterr().out


def test_a_full_disk_does_not_stop_the_checkpoint_of_a_run_that_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)
    slow = loop.run.layout.step_episodes(1)
    os.mkfifo(slow)
    loop.run.layout.step_episodes(2).symlink_to("/dev/full")
    reader = threading.Thread(target=slow.read_bytes)

    def stop() -> None:
        reader.start()  # so the second step's write fails only now
        fail()

    session.on_play = at_step(loop, 2, stop)
    with pytest.raises(RuntimeError, match="the engine is gone"):
        loop.train()
    loop.close()
    reader.join()
    assert saved(tmp_path) == ["step-000002"]
    assert "ended early: episodes could not be written ([Errno 28] No space" in (
        capsys.readouterr().out
    )


def test_a_full_disk_for_metrics_loses_no_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop, session = scripted_loop(tmp_path)

    def fill() -> None:
        loop.run._metrics = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")

    session.on_sync = at_step(loop, 2, fill)
    with pytest.raises(OSError, match="No space left") as raised:
        loop.train()
    assert raised.value.filename == str(tmp_path / "train/metrics.jsonl")
    # The step was learned: it is saved, although its line could not be written.
    assert (logged(tmp_path), saved(tmp_path)) == ([1, 2], ["step-000003"])
    assert "ended early: saved is " in capsys.readouterr().out


def test_no_episodes_are_kept_but_those_that_ended_the_run(tmp_path: Path) -> None:
    loop, _ = scripted_loop(tmp_path, rollout_steps=2, keep_trajectories=0)
    loop.train()
    loop.close()
    assert list(loop.run.layout.trajectories.iterdir()) == []


def test_a_run_that_is_done_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop, _ = scripted_loop(tmp_path, rollout_steps=1)
    checkpoint = loop.train()
    loop.close()
    resumed, session = scripted_loop(tmp_path, checkpoint, rollout_steps=1)
    assert resumed.train() == checkpoint
    resumed.close()
    assert session.played == []
    assert "all 1 rollout steps are done" in capsys.readouterr().out
