"""Run folders as they are left behind, whole and broken."""

import json
from pathlib import Path

import pytest

from agent_rl.commands.compare.runs import NEEDED, find_runs, is_run, read_run
from agent_rl.config import ConfigError
from tests.builders.comparisons import write_evaluation, write_training


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        find_runs([path])
    return str(caught.value)


# What is there


def test_staleness_is_a_number_if_it_is_there(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    file = path / "train/metrics.jsonl"
    (run,) = find_runs([path]).runs
    assert "learner/staleness_mean" not in run.metrics[0]
    file.write_text(file.read_text().replace('{"step"', '{"learner/staleness_mean": null, "step"'))
    assert "metrics.jsonl:1: learner/staleness_mean: None; it should be a number" in error_of(path)


def test_a_run_with_its_evaluations(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", seed=7)
    write_evaluation(path / "train/evaluations/step-000002.json")
    write_evaluation(path / "train/evaluations/step-000003.json")
    write_evaluation(path / "evaluations/final.json", games={"a1": [True, False, True]})
    notes: list[str] = []
    run = read_run(path, notes)
    assert (run.name, run.config.seed, run.steps, run.is_finished, notes) == ("run", 7, 3, True, [])
    assert [line["rollout/success"] for line in run.metrics] == [0.1, 0.2, 0.3]
    assert {step: evaluation.name for step, evaluation in run.evaluations.items()} == {
        2: "step-000002.json",
        3: "final.json",
    }
    assert run.final is run.evaluations[3]
    assert run.evaluated_after == 3
    assert run.final.splits["valid_seen"]["a1"].mean == pytest.approx(2 / 3)


def test_a_small_copy_is_a_run(tmp_path: Path) -> None:
    path = write_training(tmp_path / "copy", flat=True)
    write_evaluation(path / "evaluations/step-000002.json")
    (run,) = find_runs([path]).runs
    assert (run.steps, run.evaluated_after) == (3, 2)
    write_evaluation(path / "evaluations/final.json")
    assert read_run(path, []).evaluated_after == 3


def test_a_run_that_recorded_old_keys_is_read(tmp_path: Path) -> None:
    config = write_training(tmp_path / "run") / "train" / "config.yaml"
    text = config.read_text()
    assert "turn_discount: null" in text
    config.write_text(text.replace("turn_discount:", "step_discount:"))
    (run,) = find_runs([tmp_path / "run"]).runs
    assert run.config.learner.turn_discount is None


def test_the_train_folder_stands_for_its_run(tmp_path: Path) -> None:
    write_evaluation(write_training(tmp_path / "run") / "evaluations/final.json")
    (run,) = find_runs([tmp_path / "run" / "train"]).runs
    assert run.name == "run"
    assert run.final is not None


def test_a_sweep_is_all_of_its_runs_and_its_start(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for seed in (1, 0):
        write_training(sweep / f"gmpo-s{seed}", seed=seed)
    (sweep / "start" / "sft").mkdir(parents=True)
    write_evaluation(sweep / "start/evaluations/final.json")
    (sweep / "gmpo-s2").mkdir()
    (sweep / "gmpo-s2" / "config.yaml").write_text("run_folder: x\n")  # its turn has not come
    write_training(sweep / "gmpo-s3", steps=0, seed=3)
    found = find_runs([sweep])
    assert [run.name for run in found.runs] == ["gmpo-s0", "gmpo-s1"]
    assert list(found.starts) == ["start"]
    assert [(list(run.evaluations), run.final) for run in found.runs] == [([0], None)] * 2, (
        "the start's evaluation is no final one of a run"
    )
    assert [note.rpartition("/")[2] for note in found.notes] == [
        "gmpo-s2: no rollout step yet; left out",
        "gmpo-s3: no rollout step yet; left out",
    ]


def test_runs_of_one_name_get_their_parents(tmp_path: Path) -> None:
    for sweep in ("one", "two"):
        write_training(tmp_path / sweep / "gmpo-s0")
        write_evaluation(tmp_path / sweep / "start/evaluations/final.json")
    found = find_runs([tmp_path / "one", tmp_path / "two"])
    assert [run.name for run in found.runs] == ["one/gmpo-s0", "two/gmpo-s0"]
    assert list(found.starts) == ["one/start", "two/start"]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    (run,) = find_runs([write_training(tmp_path / "run", steps=2, rollout_steps=5)]).runs
    assert (run.steps, run.is_finished, run.final) == (2, False, None)


def test_a_torn_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    found = find_runs([write_training(tmp_path / "run", tail='{"step": 4, "rollout/succ')])
    assert found.runs[0].steps == 3
    (note,) = found.notes
    assert "metrics.jsonl: the last line is torn" in note


# Bad input


def test_no_such_folder_names_those_there_are(tmp_path: Path) -> None:
    write_training(tmp_path / "run-a")
    message = error_of(tmp_path / "run-b")
    assert "run-b: no such folder; there are: " in message
    assert "run-a" in message


def test_an_empty_folder(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    assert f"{tmp_path}: no run: there is no train/metrics.jsonl" in error_of(tmp_path)


@pytest.mark.parametrize("with_file", [True, False])
def test_a_run_without_a_rollout_step(tmp_path: Path, with_file: bool) -> None:
    path = write_training(tmp_path / "run", steps=0)
    if not with_file:
        (path / "train" / "metrics.jsonl").unlink()
    assert "metrics.jsonl: no rollout step yet; wait for the first" in error_of(path)


def test_a_run_with_nothing_but_a_torn_line(tmp_path: Path) -> None:
    assert "no rollout step yet" in error_of(
        write_training(tmp_path / "run", steps=0, tail='{"step"')
    )


def test_a_torn_line_in_the_middle(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=2, tail='{"step": 3, "ro\n{"step": 4}\n')
    message = error_of(path)
    assert "metrics.jsonl:3: not a whole line of JSON" in message
    assert "leave the run out" in message


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (
            '{"step": 5}\n',
            "metrics.jsonl:4: step: 5; a run has a line for each rollout step, so this should be 4",
        ),
        ('{"step": 4}\n', "metrics.jsonl:4: rollout/success: None; it should be a number"),
        ("[4]\n", "metrics.jsonl:4: step: None"),
        (
            json.dumps({"step": 4, **dict.fromkeys(NEEDED, float("nan"))}) + "\n",
            "rollout/success: nan",
        ),
    ],
)
def test_lines_that_are_no_metrics_of_this_version(tmp_path: Path, tail: str, said: str) -> None:
    assert said in error_of(write_training(tmp_path / "run", tail=tail))


@pytest.mark.parametrize(
    ("config", "said"), [("run_folder: x\nsede: 0\n", "did you mean 'seed'?"), (None, "no such")]
)
def test_a_config_of_another_version(tmp_path: Path, config: str | None, said: str) -> None:
    path = write_training(tmp_path / "run")
    file = path / "train" / "config.yaml"
    file.unlink()
    if config is not None:
        file.write_text(config)
    message = error_of(path)
    assert f"{file}: " in message
    assert said in message
    assert (
        "no run of this version of agent_rl: compare it with the version that wrote it" in message
    )
