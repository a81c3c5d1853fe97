"""The runs of a sweep, and the progress that their folders show."""

from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.sweep.plan import (
    Sweep,
    SweepProgress,
    progress_of_run,
    progress_of_start,
    read_sweep,
)
from agent_rl.config import ConfigError
from tests.builders.runs import write_checkpoint
from tests.builders.sweeps import STEPS, made, with_variants, write_config


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


def test_a_run_goes_on_from_its_newest_checkpoint(sweep: Sweep) -> None:
    run = sweep.runs[0]
    assert progress_of_run(run) == SweepProgress(next_step="new")
    made(run)
    metrics = run.folder / "train/metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text('{"step": 1}\n')
    whole = write_checkpoint(run.folder, 2)
    whole.rename(whole.with_name(f"{whole.name}.unfinished-17"))
    assert progress_of_run(run) == SweepProgress(next_step="new")
    made(run, checkpoints=(2, 4))
    assert progress_of_run(run) == SweepProgress(next_step="resume", step=4)
    made(run, checkpoints=(STEPS,))
    assert progress_of_run(run) == SweepProgress(next_step="evaluate", step=STEPS)
    run.layout.final_report.parent.mkdir()
    run.layout.final_report.write_text("")  # as after the machine died
    assert progress_of_run(run).next_step == "evaluate"
    made(run, evaluated=True)
    assert progress_of_run(run) == SweepProgress(next_step="done", step=STEPS)


def test_a_checkpoint_that_lacks_a_file_does_not_count(sweep: Sweep) -> None:
    run = made(sweep.runs[0])
    checkpoint = run.layout.train.checkpoint(2)
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text("{}")
    assert progress_of_run(run).next_step == "new"
    write_checkpoint(run.folder, 2)
    (write_checkpoint(run.folder, 4) / "random.pt").unlink()
    assert progress_of_run(run) == SweepProgress(next_step="resume", step=2)


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_run_that_was_made_with_another_config_is_refused(evaluated: bool, sweep: Sweep) -> None:
    run = made(sweep.runs[1], checkpoints=(4,), evaluated=evaluated, learner={"max_grad_norm": 0.5})
    with pytest.raises(ConfigError) as refused:
        progress_of_run(run)
    assert str(refused.value) == (
        f"{run.layout.config_file}: learner.max_grad_norm: fast-s0 was made with 0.5, and the "
        "config now says 1.0; set it back, or name another run_folder=..., or delete "
        f"{run.folder} to make it again"
    )


def test_a_run_without_a_checkpoint_takes_any_config(sweep: Sweep) -> None:
    assert progress_of_run(made(sweep.runs[0], learner={"max_grad_norm": 0.5})).next_step == "new"


def test_a_setting_that_was_added_is_a_change_too(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(4,), model={"lora": {"rank": 4}})
    with pytest.raises(
        ConfigError,
        match=r"model\.lora\.\w+: gmpo-s0 was made with .*, and the config now says None",
    ):
        progress_of_run(run)


def test_what_a_machine_needs_may_change_on_the_way(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(4,), workers={"count": 7}, train={"checkpoint_every": 3})
    assert progress_of_run(run).next_step == "resume"


def test_the_evaluation_may_change_until_it_is_there(sweep: Sweep) -> None:
    run = made(sweep.runs[0], checkpoints=(STEPS,), evaluation={"temperature": 1.0})
    assert progress_of_run(run).next_step == "evaluate"
    made(run, evaluated=True, evaluation={"temperature": 1.0})
    with pytest.raises(
        ConfigError,
        match=rf"made with 1\.0, .* 0\.4; .* or delete {run.layout.final_report} to evaluate",
    ):
        progress_of_run(run)


def test_a_sweep_that_was_moved_is_the_same(sweep: Sweep, tmp_path: Path) -> None:
    made(sweep.runs[0], checkpoints=(4,))
    sweep.folder.rename(tmp_path / "moved")
    moved = read_sweep(tmp_path / "c.yaml", [f"run_folder={tmp_path}/moved"])
    assert progress_of_run(moved.runs[0]) == SweepProgress(next_step="resume", step=4)


def test_the_start_is_whole_or_made_again(sweep: Sweep) -> None:
    assert progress_of_start(sweep).next_step == "new"
    made(sweep.start)
    (sweep.start.folder / "init").mkdir()
    (sweep.start.folder / "sft/model.partial").mkdir(parents=True)
    assert progress_of_start(sweep).next_step == "new"
    (sweep.start.folder / "sft/model").mkdir()
    assert progress_of_start(sweep).next_step == "evaluate"
    made(sweep.start, evaluated=True)
    assert progress_of_start(sweep).next_step == "done"
    made(sweep.start, sft={"epochs": 9})
    with pytest.raises(
        ConfigError, match=r"sft\.epochs: start was made with 9, and the config now says 4"
    ):
        progress_of_start(sweep)


def test_a_start_is_not_made_again_under_runs_that_began_with_it(sweep: Sweep) -> None:
    made(sweep.runs[1], checkpoints=(4,))
    with pytest.raises(
        ConfigError,
        match=rf"start/sft/model: the policy that {sweep.runs[1].folder} was trained from",
    ):
        progress_of_start(sweep)


def test_a_named_policy_is_evaluated_and_not_made(tmp_path: Path) -> None:
    sweep = read_sweep(write_config(tmp_path, model={"path": "some/policy"}))
    assert progress_of_start(sweep).next_step == "evaluate"
    made(sweep.start, evaluated=True)
    made(sweep.runs[0], checkpoints=(4,))
    assert progress_of_start(sweep).next_step == "done"
    other = read_sweep(write_config(tmp_path, model={"path": "other/policy"}))
    with pytest.raises(ConfigError, match=r"model\.path: start was made with 'some/policy'"):
        progress_of_start(other)
    with pytest.raises(ConfigError, match=r"model\.path: gmpo-s0 was made with 'some/policy'"):
        progress_of_run(other.runs[0])
