import subprocess
import sys
import timeit

import pytest

from rollouts.workers.calls import CallPage, WatchedEnv
from tests.builders.number_env import NumberEnv
from tests.builders.paths import ROOT

DYING = """
import os, sys
from pathlib import Path
from rollouts.workers.calls import CallPage
page = CallPage(Path(sys.argv[1]))
page.begin(3, None)
page.end()
page.begin(2**40, sys.argv[2])
os._exit(0)
"""


@pytest.mark.process
def test_a_page_outlives_its_writer() -> None:
    page = CallPage()
    assert page.read() is None
    for command in ("open the door é", "x" * 5000):
        writer = [sys.executable, "-c", DYING, str(page.path), command]
        subprocess.run(writer, check=True, cwd=ROOT)
        call = page.read()
        assert call is not None
        assert call.episode == 2**40
        assert call.command is not None
        assert command.startswith(call.command)
        assert len(call.command) > 10
        assert 0.0 < call.seconds < 60.0
    page.begin(4, None)
    assert str(page.read()) == "reset"
    page.end()
    assert page.read() is None
    path = page.path
    page.close()
    assert not path.exists(), "nothing is left"


def test_a_call_costs_next_to_nothing() -> None:
    page, calls = CallPage(), 20_000

    def call() -> None:
        page.begin(1, "go to desk 1")
        page.end()

    assert min(timeit.repeat(call, number=calls, repeat=5)) / calls < 5e-6


def test_a_call_that_fails_is_over() -> None:
    page = CallPage()
    env = WatchedEnv(NumberEnv(), page, 5)
    env.reset(options={"task": env.tasks("train")[1]})
    with pytest.raises(RuntimeError, match="the world broke"):
        env.step("crash")
    assert page.read() is None
