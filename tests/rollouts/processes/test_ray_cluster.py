"""A cluster of one node that the run did not start."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rollouts.processes.ray_cluster import Need, Places, use_cluster
from tests.builders.paths import ROOT
from tests.builders.ray_nodes import Node, environment, head, second_node, unshare_is_missing

TOKEN = "0123456789abcdef" * 4
CONFIG = """
run_folder: run
env: {id: guess-the-number}
model: {vocab_size: 400, hidden_size: 64, layers: 1, heads: 2, kv_heads: 2, corpus_tasks: 4}
episode: {max_turns: 4, max_action_tokens: 8}
workers: {count: 2, envs_per_worker: 4}
evaluation: {split: valid, tasks: 8}
"""
COMMAND = """
import rollouts.workers.pool
from rollouts.processes import ray_cluster
ray_cluster.WAIT_SECONDS = 3.0
from agent_rl.cli import main
main()
"""
LOOK = """
import sys, time
from rollouts.processes.ray_cluster import use_cluster
from rollouts.processes.ray_processes import check_ray, start_ray, stop_ray
use_cluster(sys.argv[1])
start_ray()
check_ray()
print("well", flush=True)
try:
    while True:
        time.sleep(0.2)
        check_ray()
except RuntimeError as error:
    print(error, flush=True)
stop_ray()
print("ended")
"""


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with head(cpus=3, token=TOKEN) as node:
        yield node


def evaluate(folder: Path, address: str, *settings: str, token: str = "") -> tuple[int, str]:
    """`agent-rl evaluate` of the random player, in a process of its own."""
    (folder / "c.yaml").write_text(CONFIG)
    arguments = ["evaluate", "c.yaml", *settings, "--model", "random", "--ray-address", address]
    ended = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment(token, COLUMNS="1000"),
        timeout=200,
    )
    return ended.returncode, ended.stdout + ended.stderr


def test_the_address_of_rays_client_is_refused() -> None:
    with pytest.raises(ValueError, match="ray://head:10001: Ray Client cannot be used"):
        use_cluster("ray://head:10001")


def test_ray_of_this_machine_sets_no_cores_aside() -> None:
    places = Places([Need(), Need(gpus=0.5)])
    assert places.options(1) == {"num_cpus": 0, "num_gpus": 0.5}
    assert not places.may_wait
    places.hand_over()


@pytest.mark.process
def test_episodes_are_played_on_a_cluster(node: Node, tmp_path: Path) -> None:
    status, said = evaluate(tmp_path, node.address, token=TOKEN)
    assert status == 0, said
    assert "no token" not in said
    assert node.process.poll() is None, "the run stopped a cluster that is not its own"
    # The places of the first run are free again: more than this would not fit beside them.
    status, said = evaluate(tmp_path, node.address, "workers.count=3", "run_folder=b", token=TOKEN)
    assert status == 0, said
    status, said = evaluate(tmp_path, node.address, "workers.count=5", "run_folder=c", token=TOKEN)
    assert status == 2
    assert (
        "error: Ray's cluster had no room within 3 s: workers.count: 5 need 5 CPU and 0 GPU; there "
        "are 3 CPU and 0 GPU on 1 node, and 3 CPU and 0 GPU are free; lower these settings, add "
        "nodes, or wait for other jobs" in said
    )
    assert "Traceback" not in said


@pytest.mark.process
def test_an_address_without_a_cluster_is_an_error(tmp_path: Path) -> None:
    status, said = evaluate(tmp_path, "127.0.0.1:1")
    assert status == 2, said
    assert "error: --ray-address 127.0.0.1:1: nothing answers there; start Ray on this" in said
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.process
def test_a_cluster_without_a_token_gets_a_warning(tmp_path: Path) -> None:
    with head(cpus=2) as node:
        status, said = evaluate(tmp_path, node.address)
    assert status == 0, said
    assert f"Ray's cluster at {node.address} asks for no token" in said


@pytest.mark.slow
@pytest.mark.process
def test_a_node_that_the_cluster_lost_is_seen_at_once() -> None:
    with head(cpus=1, token=TOKEN) as node:
        run = subprocess.Popen(
            [sys.executable, "-c", LOOK, node.address],
            stdout=subprocess.PIPE,
            text=True,
            env=environment(TOKEN),
        )
        assert run.stdout is not None
        assert run.stdout.readline() == "well\n"
        (raylet,) = [p for p in psutil.Process(node.process.pid).children() if p.name() == "raylet"]
        raylet.kill()
        killed_at = time.monotonic()
        # Ray prints lines of its own, too.
        said = "Ray's own process of this node ended, so no other process can go on\n"
        assert said in iter(run.stdout.readline, "")
        assert time.monotonic() - killed_at < 10
        # Ray itself would end the process without a word after 60 s.
        assert run.communicate(timeout=50)[0].endswith("ended\n")
        assert run.returncode == 0


@pytest.mark.slow
@pytest.mark.process
def test_a_head_that_is_lost_is_told_before_ray_ends_the_process() -> None:
    if missing := unshare_is_missing():
        pytest.skip(f"no second node here: {missing}")
    with (
        head(cpus=0, token=TOKEN) as first,
        second_node(first.address, cpus=1, token=TOKEN) as second,
    ):
        run = subprocess.Popen(
            second.command(ROOT, sys.executable, "-c", LOOK, first.address),
            stdout=subprocess.PIPE,
            text=True,
            env=environment(TOKEN),
        )
        assert run.stdout is not None
        assert run.stdout.readline() == "well\n"
        first.kill()
        killed_at = time.monotonic()
        said = "the head of Ray's cluster is gone, so no other process can go on\n"
        assert said in iter(run.stdout.readline, "")
        # It may start again within 30 s. Ray itself would end the process after 60 s.
        assert 29 < time.monotonic() - killed_at < 50
        assert run.communicate(timeout=30)[0].endswith("ended\n")
        assert run.returncode == 0
