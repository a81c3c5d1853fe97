"""The learner in a process of its own, against a `Learner` in this one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agent_rl.config.model import LoraSettings
from agent_rl.learner import processes
from agent_rl.learner.learner import Learner
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.saving import save_policy
from rollouts import ServingSettings
from rollouts.processes import ray_processes
from tests.builders.learner_processes import (
    CONTEXT,
    assert_equal,
    load_tiny,
    settings_of,
    weights_in,
    written,
)
from tests.builders.tiny_learner import WALL, MakeSamples

pytestmark = pytest.mark.process

OF_THE_MACHINE = dict.fromkeys(WALL, 0.0)


def load_nothing() -> tuple[Any, Any]:
    raise ValueError("model there: is not whole; copy it again")


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=2, alpha=4)], ids=["all", "lora"])
def test_a_process_learns_to_the_bit_what_this_one_does(
    lora: LoraSettings | None, one: LearnerProcesses, random_samples: MakeSamples, tmp_path: Path
) -> None:
    samples, settings = random_samples(6), settings_of(1, 40)
    here = Learner(load_tiny(lora)[0], settings, CONTEXT)
    one.open(partial(load_tiny, lora), settings, CONTEXT)
    for _ in range(2):
        expected, got = here.update(samples), one.update(samples)
        assert {**got, **OF_THE_MACHINE} == {**expected, **OF_THE_MACHINE}
    save_policy(here.model, load_tiny()[1], tmp_path / "here")
    assert_equal(written(one, tmp_path / "there"), weights_in(tmp_path / "here"))
    names = [sorted(p.name for p in (tmp_path / at).rglob("*")) for at in ("here", "there")]
    assert names[0] == names[1]


def test_a_policy_that_cannot_be_loaded_is_one_error(
    one: LearnerProcesses, two: LearnerProcesses, random_samples: MakeSamples
) -> None:
    for ranks, learner in ((1, one), (2, two)):
        learner.open(load_nothing, settings_of(ranks, 40), CONTEXT)
        with pytest.raises(ValueError, match=r"^model there: is not whole; copy it again$"):
            learner.update(random_samples(2))
        learner.open(load_tiny, settings_of(ranks, 40), CONTEXT)
        assert learner.update(random_samples(2))["optimizer_steps"] == 2


def test_no_model_leaves_or_enters_through_ray(
    one: LearnerProcesses, random_samples: MakeSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            sent.append(arguments)
            sent.append(function(*arguments, **settings))
            return sent[-1]

        return call

    monkeypatch.setattr(processes, "put", keep(ray_processes.put))
    monkeypatch.setattr(processes, "calls_of_all", keep(ray_processes.calls_of_all))
    monkeypatch.setattr(processes, "wait_for_all", keep(ray_processes.wait_for_all))
    one.open(load_tiny, settings_of(1, 40), CONTEXT)
    samples = random_samples(2)
    one.update(samples)
    one.write()
    assert (samples,) in sent

    def holds_weights(value: Any) -> bool:
        if isinstance(value, list | tuple):
            return any(map(holds_weights, value))
        if isinstance(value, dict):
            return any(map(holds_weights, value.values()))
        return isinstance(value, Tensor | torch.nn.Module)

    assert not holds_weights(sent)


def test_what_is_said_while_a_policy_is_loaded_is_said_here(
    one: LearnerProcesses, capsys: pytest.CaptureFixture[str]
) -> None:
    def load() -> tuple[Any, Any]:
        import logging

        from agent_rl.display import say

        say("model m: [mtp] not loaded")
        logging.getLogger("agent_rl.policy.x").warning("%s is full", "/dev/shm")
        return load_tiny()

    one.open(load, settings_of(1, 40), CONTEXT)
    one.wait()
    assert capsys.readouterr().out == "model m: [mtp] not loaded\n/dev/shm is full\n"


def test_the_folder_goes_with_the_learner() -> None:
    with LearnerProcesses(settings_of(1, 40)) as learner:
        learner.open(load_tiny, settings_of(1, 40), CONTEXT)
        folder = learner.folder
        assert (folder / "model.safetensors").is_file()
    assert not folder.exists()
    learner.close()


def test_too_few_gpus_are_told_before_anything_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "gpu_count", lambda: 3)
    with pytest.raises(ValueError, match=r"there are 3: set learner\.ranks: 1,"):
        LearnerProcesses(settings_of(2, 40, device="auto"), ServingSettings(tensor_parallel=2))
