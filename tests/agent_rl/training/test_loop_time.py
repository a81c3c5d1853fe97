"""The time of a run's first step."""

import json
import time
from pathlib import Path

import pytest

from rollouts.workers.usage import Usage
from tests.builders.scripted_session import ScriptedSession, scripted_loop


def test_the_start_of_the_engine_is_in_no_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, session = scripted_loop(tmp_path, rollout_steps=1)
    start = [1.0]

    def usage(_: ScriptedSession) -> Usage:
        time.sleep(start.pop() if start else 0.0)  # as the first call starts the engine
        return Usage()

    monkeypatch.setattr(ScriptedSession, "usage", usage)
    loop.train()
    loop.close()
    line = json.loads((tmp_path / "train" / "metrics.jsonl").read_text())
    assert line["time/other_share"] * line["time/seconds"] < 1.0
    assert len(session.played) == 1
