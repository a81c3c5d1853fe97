from pathlib import Path

import pytest

from agent_rl.runs.layout import (
    PolicyPlace,
    RunLayout,
    StageLayout,
    checkpoint_step_in,
    missing_files,
    policy_place,
    run_around,
    step_name,
    step_of,
    step_of_policy_name,
)
from tests.builders.runs import write_checkpoint


def test_steps_have_six_digits_and_are_read_back() -> None:
    assert step_name(10) == "step-000010"
    assert step_of(Path("step-000010")) == step_of(Path("a/step-000010.json")) == 10
    assert step_of(Path("step-1234567")) == 1_234_567
    assert step_of(Path("step-000010.jsonl")) == step_of(Path("step-000010.jsonl.gz")) == 10
    for name in (
        "step-000010.tmp-7",
        "step-000010.unfinished-7",
        "step-",
        "final.json",
        "step-7.gz",
    ):
        assert step_of(Path(name)) is None


def test_the_files_of_a_run() -> None:
    run = RunLayout(Path("r"))
    assert run.config_file == Path("r/config.yaml")
    assert run.init == Path("r/init")
    assert run.sft.model == Path("r/sft/model")
    assert run.sft.expert_episodes == Path("r/sft/trajectories/expert.jsonl.gz")
    assert run.sft.own_episodes(2) == Path("r/sft/trajectories/own-2.jsonl.gz")
    assert run.train.metrics_file == Path("r/train/metrics.jsonl")
    assert run.train.checkpoint(2) == Path("r/train/checkpoints/step-000002")
    assert run.train.report(2) == Path("r/train/evaluations/step-000002.json")
    assert run.train.step_episodes(2) == Path("r/train/trajectories/step-000002.jsonl.gz")
    assert run.final_report == Path("r/evaluations/final.json")


def test_a_checkpoint_is_whole_with_all_its_files(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 2)
    assert missing_files(path) == []
    for name in ("model/config.json", "learner/learner.json", "random.pt", "state.json"):
        (path / name).unlink()
        assert missing_files(path) == [name]
        (path / name).touch()
    (path / "config.yaml").unlink()
    assert missing_files(path) == ["config.yaml"]


def test_reports_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    stage = StageLayout(tmp_path)
    assert stage.reports() == {}
    stage.evaluations.mkdir()
    for name in ("step-1000000.json", "step-000020.json", "step-x.json", "final.json"):
        (stage.evaluations / name).touch()
    assert list(stage.reports().items()) == [(20, stage.report(20)), (10**6, stage.report(10**6))]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    stage = StageLayout(tmp_path / "train")
    assert stage.whole_checkpoints() == []
    assert stage.last_step() == 0
    late, early = write_checkpoint(tmp_path, 1_000_000), write_checkpoint(tmp_path, 20)
    (write_checkpoint(tmp_path, 30) / "state.json").unlink()
    assert stage.whole_checkpoints() == [early, late]
    assert stage.last_step() == 1_000_000


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ("runs/a/train/checkpoints/step-000040", 40),
        ("/x/runs/a/train/checkpoints/step-000040/model", 40),
        ("runs/a/sft/model", None),
        ("runs/a/train/checkpoints/step-000040/learner", None),
    ],
)
def test_the_step_in_the_path_of_a_policy(path: str, step: int | None) -> None:
    assert checkpoint_step_in(path) == step


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/r/init", PolicyPlace(RunLayout(Path("/r")), "init")),
        ("/r/sft/model", PolicyPlace(RunLayout(Path("/r")), "sft")),
        (
            "/a/r/train/checkpoints/step-000040/model",
            PolicyPlace(RunLayout(Path("/a/r")), "train", 40),
        ),
        ("/r/sft", None),
        ("/r/train/checkpoints/step-000040", None),
        ("/r/train/checkpoints/step-000040.tmp-7/model", None),
    ],
)
def test_the_place_of_a_policy_in_its_run(path: str, place: PolicyPlace | None) -> None:
    assert policy_place(Path(path)) == place


@pytest.mark.parametrize(
    "inside",
    [
        "init",
        "sft",
        "sft/model",
        "train",
        "train/checkpoints",
        "train/checkpoints/step-000002/model",
    ],
)
def test_the_run_around_a_policy(inside: str) -> None:
    assert run_around(Path("/x/run") / inside) == Path("/x/run")


def test_a_run_is_around_itself(tmp_path: Path) -> None:
    assert run_around(tmp_path) is None
    (tmp_path / "sft").mkdir()
    assert run_around(tmp_path) == tmp_path
    assert run_around(tmp_path / "other") is None


def test_the_step_in_the_name_of_an_evaluation() -> None:
    assert step_of_policy_name("step-000010-valid_seen-t0.4-1f3a9c2e") == 10
    assert step_of_policy_name("sft-valid_seen-t0.4-1f3a9c2e") is None
