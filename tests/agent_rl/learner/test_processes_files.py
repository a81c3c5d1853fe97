"""Ranks that read their own slices of a model's files, against ranks that load it whole."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.config.model import LoraSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.from_scratch import train_tokenizer
from agent_rl.policy.loading import load_policy, policy_loader
from rollouts.processes.ray_processes import get
from tests.builders.learner_processes import CONTEXT, assert_equal, settings_of, written
from tests.builders.tiny_learner import OF_THE_SPLIT, WALL, MakeModel, MakeSamples

pytestmark = pytest.mark.process

MIB = 2**20


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    train_tokenizer(["a room"], 260).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=3, alpha=4)], ids=["all", "lora"])
@pytest.mark.parametrize("tied", [True, False])
def test_they_learn_to_the_bit_what_ranks_with_whole_models_learn(
    lora: LoraSettings | None,
    tied: bool,
    two: LearnerProcesses,
    tiny_model: MakeModel,
    random_samples: MakeSamples,
    tmp_path: Path,
) -> None:
    # 303 rows are no two equal halves.
    source = saved(tiny_model(tied=tied, vocab_size=303).bfloat16(), tmp_path / "model")
    samples, outcomes = random_samples(6), []
    for shared in (True, False):
        load = policy_loader(source, lora, seed=3, shared=shared)
        two.open(load, settings_of(2, 40), CONTEXT)
        before = written(two, tmp_path / "before")
        metrics = [two.update(samples) for _ in range(2)]
        for of_update in metrics:
            of_update.update(dict.fromkeys(WALL, 0.0))
        outcomes.append((before, metrics, written(two, tmp_path / "after")))
    (before, metrics, after), (whole_before, whole_metrics, whole_after) = outcomes
    assert_equal(before, whole_before)
    assert metrics == whole_metrics
    assert_equal(after, whole_after)
    assert any(float((after[name] - before[name]).abs().max()) > 1e-4 for name in after)


def test_the_reference_is_shared_out_too(
    two: LearnerProcesses, tiny_model: MakeModel, random_samples: MakeSamples, tmp_path: Path
) -> None:
    # Seven samples: the ranks have different numbers of passes.
    source, samples = (
        saved(tiny_model(vocab_size=303, dtype=torch.float32), tmp_path / "model"),
        random_samples(7),
    )
    model, reference = load_policy(source)[0], load_policy(source)[0]
    context = LearnerContext(total_steps=10, reference=reference)
    here = Learner(model, settings_of(1, 40, beta=0.1), context)
    load = policy_loader(source, None, shared=True)
    two.open(load, settings_of(2, 40, beta=0.1), CONTEXT, load_reference=load)
    for _ in range(2):
        expected, got = here.update(samples), two.update(samples)
        for name in set(expected) - WALL - OF_THE_SPLIT:
            assert got[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-5), name
    assert expected["kl_reference"] > 0.0


def memory(learner: LearnerProcesses, what: str) -> list[int]:
    """The resident bytes of each rank: now (`VmRSS`), or at most since `peaks` began (`VmHWM`)."""
    found = []
    for rank in learner._ranks:
        status = Path(f"/proc/{get(rank.process_id.remote())[1]}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith(f"{what}:")]
        found.append(int(line.split()[1]) * 1024)
    return found


def peaks(learner: LearnerProcesses, do: Callable[[], object]) -> list[float]:
    """The most MiB that each rank takes more during a call than before it."""
    for rank in learner._ranks:
        Path(f"/proc/{get(rank.process_id.remote())[1]}/clear_refs").write_text("5")
    before = memory(learner, "VmRSS")
    do()
    after = memory(learner, "VmHWM")
    return [(most - least) / MIB for most, least in zip(after, before, strict=True)]


def test_a_rank_has_its_share_and_one_weight_at_most(
    two: LearnerProcesses,
    random_samples: MakeSamples,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    config = LlamaConfig(
        vocab_size=303,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=4,
        num_attention_heads=8,
    )
    large = LlamaForCausalLM(config).bfloat16()  # type: ignore[no-untyped-call]
    whole = sum(math.prod(weight.shape) * 4 for weight in large.parameters()) / MIB
    one_weight = 1024 * 4096 * 4 / MIB
    paths = {"large": saved(large, tmp_path / "large")}
    config.hidden_size, config.intermediate_size = 16, 16
    paths["small"] = saved(LlamaForCausalLM(config), tmp_path / "small")  # type: ignore[no-untyped-call]
    del large

    def opened(name: str, *, shared: bool) -> Callable[[], None]:
        def do() -> None:
            load = policy_loader(paths[name], None, shared=shared)
            two.open(load, settings_of(2, 40), CONTEXT)
            two.wait()

        return do

    of_load: dict[bool, list[float]] = {}
    for shared in (True, False):
        opened("small", shared=shared)()  # what the first load of a process imports is not counted
        of_load[shared] = peaks(two, opened("large", shared=shared))
    two.update(random_samples(2))  # a checkpoint has the optimizer's state, too
    of_save = peaks(two, lambda: two.save_model(tmp_path / "saved"))
    of_checkpoint = peaks(two, lambda: two.save(tmp_path / "checkpoint"))
    for name, figures in (
        ("whole model", [whole]),
        ("load", of_load[True]),
        ("load whole", of_load[False]),
        ("save_model", of_save),
        ("save", of_checkpoint),
    ):
        record_property(name, [f"{figure:.0f} MiB" for figure in figures])
    spare = 16.0
    assert max(of_load[True]) < whole / 2 + 2 * one_weight + spare
    assert min(of_load[False]) > whole
    # Whole weights are gathered one by one, and the allocator keeps the memory of some. A copy of
    # all would be the whole model, and one of the slices with their optimizer's state half as much
    # again.
    assert max(of_save) < whole / 2 + spare
    assert max(of_checkpoint) < whole / 2 + spare
