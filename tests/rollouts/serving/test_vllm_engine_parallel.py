"""An engine of two processes beside one of one: the same answers, and nothing that is left."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from rollouts import Completion, ServingSettings
from rollouts.processes.ray_processes import end_processes, get, process_of, start_ray, stop_ray
from rollouts.serving.policy_actor import PolicyActor
from tests.builders.engine_processes import traces_of
from tests.builders.models import save_policy

pytestmark = [pytest.mark.engine, pytest.mark.slow]

PROMPTS = [(*range(10, 50), 60 + n) for n in range(4)]


@dataclass
class Pair:
    one: Any
    two: Any
    folders: list[Path]
    start: Callable[[Path, int], tuple[Any, Any]]
    """Starts an engine of so many processes; returns its actor, and what waits for the start."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folders = [save_policy(tmp_path_factory.mktemp(f"policy-{seed}"), seed) for seed in range(2)]
    environment = {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path_factory.mktemp("sockets"))}
    start_ray()
    new = process_of(PolicyActor, max_concurrency=16, environment=environment)

    def start(folder: Path, processes: int) -> tuple[Any, Any]:
        settings = ServingSettings(
            tensor_parallel=processes, kv_cache_gib=0.02, dtype="float32", max_concurrent=8
        )
        actor = new(settings)
        return actor, actor.start.remote(folder, 0)

    (one, first), (two, second) = start(folders[0], 1), start(folders[0], 2)
    try:
        get([first, second])
        yield Pair(one, two, folders, start)
    finally:
        end_processes([one, two])
        stop_ray()


def greedy_answers(actor: Any) -> list[Completion]:
    asked = [
        actor.complete.remote(
            prompt, max_tokens=10, temperature=0.0, stop_token_ids=(1,), seed=None
        )
        for prompt in PROMPTS
    ]
    answers: list[Completion] = get(asked)
    return answers


def assert_alike(first: list[Completion], second: list[Completion]) -> None:
    for one, other in zip(first, second, strict=True):
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.versions == other.versions


def test_two_processes_answer_as_one_and_take_new_weights(pair: Pair) -> None:
    before = greedy_answers(pair.two)
    assert_alike(before, greedy_answers(pair.one))
    get([actor.sync_weights.remote(str(pair.folders[1]), 1) for actor in (pair.one, pair.two)])
    after = greedy_answers(pair.two)
    assert_alike(after, greedy_answers(pair.one))
    assert {answer.versions for answer in after} == {((1, 0),)}
    assert all(a.token_ids != b.token_ids for a, b in zip(before, after, strict=True))


def test_nothing_is_left_of_an_engine_whose_actor_is_killed(pair: Pair) -> None:
    _, pid = get(pair.two.process_id.remote())
    traces = traces_of(pid)
    assert len(traces.ranks) == 2
    # Other machines cannot reach them.
    ports = [c for rank in traces.ranks for c in psutil.Process(rank).net_connections("inet")]
    assert {port.laddr.ip for port in ports if port.status == psutil.CONN_LISTEN} <= {"127.0.0.1"}
    # One from the engine to its processes, and one back from each.
    assert len(traces.memory) >= 3
    assert sorted(get(pair.two.shared_memory.remote())) == list(traces.memory)
    assert get(pair.one.shared_memory.remote()) == ()
    # A process that is stopped could not end itself.
    os.kill(traces.ranks[1], signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert traces.left_after(60.0, memory=False) == []


def test_a_process_that_cannot_load_its_part_says_why(pair: Pair, tmp_path: Path) -> None:
    folder = save_policy(tmp_path / "torn", 0)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    actor, starting = pair.start(folder, 2)
    try:
        with pytest.raises(ValueError, match=r"engine \(vLLM\) cannot start: .*Safetensor.*raise"):
            get(starting)
    finally:
        end_processes([actor])
