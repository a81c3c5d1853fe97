"""Workers on a second node that shares nothing but code and network with the pool's."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from tests.builders.drills import record
from tests.builders.paths import ROOT
from tests.builders.ray_nodes import Node, environment, head, second_node, unshare_is_missing

pytestmark = pytest.mark.process

TOKEN = "0123456789abcdef" * 4
PLAY = """
import json, os, socket, sys, time
from rollouts import EpisodeSettings, WorkerSettings
from rollouts.processes.ray_cluster import this_node, use_cluster
from rollouts.processes.ray_processes import get
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.number_env import NumberEnv

address, advice = sys.argv[1], json.loads(sys.argv[2])
use_cluster(address)
settings = PoolSettings(
    env_id="tests.builders.number_env:NumberEnv",
    env_options={"expert": True, "advice": advice},
    episode=EpisodeSettings(max_turns=6, env_timeout_seconds=1.0),
    workers=WorkerSettings(count=2, envs_per_worker=5),
)
with RolloutPool(settings) as pool:
    here = this_node()
    nodes = [get(actor.process_id.remote())[0] for actor in pool._workers.actors]
    print(json.dumps({"elsewhere": sum(node != here for node in nodes)}), flush=True)
    for round in range(int(sys.argv[3])):
        began = time.monotonic()
        episodes = pool.collect_scripted(NumberEnv().tasks("train"), player="expert", seed=0)
        said = {e.task.id: e.error or e.stop_reason.value for e in episodes}
        seconds = time.monotonic() - began
        print(json.dumps({"said": said, "seconds": seconds}), flush=True)
        if sys.argv[4:]:
            time.sleep(1.0)
"""
WINS = {f"number-{number}": "success" for number in range(10)}


@pytest.fixture(scope="module", autouse=True)
def _two_nodes_can_be() -> None:
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")


@pytest.fixture(scope="module")
def first() -> Iterator[Node]:
    """A head with room for one worker; the other one has to go to the second node."""
    with head(cpus=1, token=TOKEN) as node:
        yield node


def start(address: str, advice: dict[str, str], rounds: int, *more: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PLAY, address, json.dumps(advice), str(rounds), *more],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(TOKEN),
    )


def told(process: "subprocess.Popen[str]") -> Any:
    """The next line of a run. Ray writes lines of its own when a node is lost."""
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("{"))
    return json.loads(line)


def on_second_node(node: Node) -> list[psutil.Process]:
    """The workers and caretakers of the second node."""
    found = []
    for child in psutil.Process(node.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            command = " ".join(child.cmdline())
            if any(name in command for name in ("RolloutWorker", "Caretaker")):
                found.append(child)
    return found


def cpu_seconds(node: Node) -> float:
    """The time that Ray's process of the cluster's head has computed."""
    children = psutil.Process(node.process.pid).children()
    (server,) = [child for child in children if child.name() == "gcs_server"]
    times = server.cpu_times()
    return times.user + times.system


def wait_for(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_hung_and_dying_calls_are_found_on_both_nodes(first: Node) -> None:
    with second_node(first.address, cpus=1, token=TOKEN) as second:
        # Episodes are dealt in turn, so each worker gets one of each kind.
        advice = {"2": "hang", "3": "hang", "6": "hold", "7": "hold"}
        run = start(first.address, advice, 1)
        assert told(run) == {"elsewhere": 1}
        answer = told(run)
        ended = "did not return within 1 s (episode.env_timeout_seconds), and its process was ended"
        hung = {
            f"number-{number}": f"step {call!r} of task 'number-{number}' {ended}"
            for number, call in advice.items()
        }
        assert answer["said"] == WINS | hung
        assert answer["seconds"] < 60
        assert run.wait(timeout=60) == 0
        wait_for(lambda: on_second_node(second) == [])


def test_processes_elsewhere_end_when_the_pool_is_killed(first: Node) -> None:
    with second_node(first.address, cpus=1, token=TOKEN) as second:
        run = start(first.address, {}, 100, "slowly")
        assert told(run) == {"elsewhere": 1}
        assert len(on_second_node(second)) == 2
        run.send_signal(signal.SIGKILL)
        wait_for(lambda: on_second_node(second) == [])
        run.wait()


def test_a_lost_node_costs_no_episode(first: Node) -> None:
    with second_node(first.address, cpus=1, token=TOKEN) as second:
        run = start(first.address, {}, 1000, "slowly")
        assert told(run) == {"elsewhere": 1}
        assert told(run)["said"] == WINS
        second.kill()
        killed_at = time.monotonic()
        # Nothing has room for its worker, so the other one plays on alone.
        rounds = [told(run) for _ in range(20)]
        assert [one["said"] for one in rounds] == [WINS] * 20
        record(
            fault="a node is lost",
            state="a worker there plays; no other node has room",
            outcome="its episodes are played by the other worker, and by a new one on a new node",
            seconds=max(one["seconds"] for one in rounds),
            lost="nothing",
            parity="all tasks won",
        )
        # Ray's head has seen it by now. It must not look for room without a pause.
        while time.monotonic() - killed_at < 30.0:
            told(run)
        began, before = time.monotonic(), cpu_seconds(first)
        for _ in range(10):
            told(run)
        assert cpu_seconds(first) - before < 0.4 * (time.monotonic() - began)
        with second_node(first.address, cpus=1, token=TOKEN) as third:
            wait_for(lambda: len(on_second_node(third)) == 2, seconds=120.0)
            assert [told(run)["said"] for _ in range(9)] == [WINS] * 9
            run.kill()
            run.wait()
