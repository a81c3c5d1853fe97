"""Run folders as they are left behind, whole and broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.compare.evaluations import read_evaluation
from agent_rl.commands.compare.runs import NEEDED, find_runs, is_run, read_run
from agent_rl.config import Config, ConfigError, dump_config


def write_run(
    path: Path,
    *,
    steps: int = 3,
    rollout_steps: int = 3,
    seed: int = 0,
    tail: str = "",
    flat: bool = False,
) -> Path:
    """A run's folder with so many lines of metrics, and `tail` behind them."""
    inner = path if flat else path / "train"
    inner.mkdir(parents=True)
    config = Config.model_validate(
        {"run_folder": str(path), "seed": seed, "train": {"rollout_steps": rollout_steps}}
    )
    (inner / "config.yaml").write_text(dump_config(config))
    lines = [
        json.dumps({"step": step, **dict.fromkeys(NEEDED, step / 10)}) + "\n"
        for step in range(1, steps + 1)
    ]
    (inner / "metrics.jsonl").write_text("".join(lines) + tail)
    return path


def write_evaluation(
    path: Path,
    *,
    version: int = 2,
    games: dict[str, list[bool]] | None = None,
    split: str = "valid_seen",
    temperature: float = 0.4,
    **setting: Any,
) -> Path:
    """An evaluation of games by id on a split; the family is the id's first letter."""
    outcomes = {"a1": [True], "b1": [False]} if games is None else games
    listed = [
        {"id": name, "family": name[0], "success": success, "turns": []}
        for name, success in outcomes.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    setting["temperature"] = temperature
    report = {"version": version, "setting": setting, "splits": {split: {"games": listed}}}
    path.write_text(json.dumps(report))
    return path


def error_of(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        find_runs([path])
    return str(caught.value)


# What is there


def test_a_run_with_its_evaluations(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seed=7)
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


def test_evaluations_made_afterwards_take_the_place_of_those_in_training(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    write_evaluation(path / "evaluations/sft-valid_seen-t0.4-00000001.json", games={"a1": [False]})
    assert read_run(path, []).final is None, "the warm start's success is not the run's"
    write_evaluation(path / "train/evaluations/step-000002.json")
    write_evaluation(path / "evaluations/step-000002-valid_seen-t0.4-00000002.json")
    write_evaluation(path / "evaluations/expert-valid_seen-00000003.json")
    write_evaluation(
        path / "evaluations/step-000009-valid_seen-t0.4-00000004.json"
    )  # of a step that is not there
    notes: list[str] = []
    evaluations = read_run(path, notes).evaluations
    assert {step: evaluation.name for step, evaluation in evaluations.items()} == {
        0: "sft-valid_seen-t0.4-00000001.json",
        2: "step-000002-valid_seen-t0.4-00000002.json",
    }
    assert notes == []
    write_evaluation(path / "evaluations/step-000003-valid_seen-t0.4-00000005.json")
    write_evaluation(path / "evaluations/final.json")
    assert read_run(path, []).evaluations[3].name == "final.json"


def test_of_several_evaluations_of_a_policy_the_largest_counts(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    write_evaluation(path / "evaluations/step-000003-valid_seen-t0.4-aa.json", games={"a1": [True]})
    write_evaluation(
        path / "evaluations/step-000003-valid_seen-t0.4-bb.json", games={"a1": [True, True, False]}
    )
    notes: list[str] = []
    final = read_run(path, notes).final
    assert final is not None
    assert final.name == "step-000003-valid_seen-t0.4-bb.json"
    (note,) = notes
    assert note.endswith(
        "step-000003-valid_seen-t0.4-bb.json: on valid_seen this evaluation of its policy counts; "
        "not: step-000003-valid_seen-t0.4-aa.json"
    )


def test_each_split_has_an_evaluation_of_its_own(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    final = write_evaluation(path / "evaluations/final.json", games={"a1": [True]})
    name = "step-000003-valid_unseen-t0.4-aa.json"
    unseen = write_evaluation(
        path / "evaluations" / name, games={"b1": [False] * 9}, split="valid_unseen"
    )
    notes: list[str] = []
    run = read_run(path, notes)
    assert run.final is not None
    assert {split: list(games) for split, games in run.final.splits.items()} == {
        "valid_seen": ["a1"],
        "valid_unseen": ["b1"],
    }
    assert (run.final.path, run.final.others, notes) == (final, (unseen,), [])
    # Another one on the split of the final evaluation does not take its place, and that is told.
    write_evaluation(
        path / "evaluations/step-000003-valid_seen-t0.4-bb.json", games={"a1": [False] * 9}
    )
    run = read_run(path, notes)
    assert run.final is not None
    assert run.final.splits["valid_seen"]["a1"].success == (True,)
    (note,) = notes
    assert note.endswith(
        "final.json: on valid_seen this evaluation of its policy counts; not: step-000003-valid_seen-t0.4-bb.json"
    )


def test_an_evaluation_as_the_config_says_counts_before_a_larger_one(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    write_evaluation(path / "train/evaluations/step-000002.json", games={"a1": [True]})
    hot = "step-000002-valid_seen-t1-aa.json"
    write_evaluation(path / "evaluations" / hot, games={"a1": [False] * 3}, temperature=1.0)
    notes: list[str] = []
    assert read_run(path, notes).evaluations[2].name == "step-000002.json"
    assert [note.rpartition("; not: ")[2] for note in notes] == [hot]
    (path / "train/evaluations/step-000002.json").unlink()
    notes.clear()
    assert read_run(path, notes).evaluations[2].name == hot
    (note,) = notes
    assert note.endswith(f"{hot}: not played as the run's config says: temperature 1.0 and not 0.4")


def test_the_final_evaluation_is_of_the_checkpoint_that_it_names(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    final = write_evaluation(
        path / "evaluations/final.json", model="runs/x/train/checkpoints/step-000002/model"
    )
    # `agent-rl evaluate` writes each report under its own name, too.
    final.with_name("step-000002-valid_seen-t0.4-aa.json").write_bytes(final.read_bytes())
    notes: list[str] = []
    run = read_run(path, notes)
    assert list(run.evaluations) == [2], "the run was made longer afterwards"
    assert (run.evaluations[2].path, run.evaluations[2].others, notes) == (final, (), [])


def test_a_small_copy_is_a_run(tmp_path: Path) -> None:
    path = write_run(tmp_path / "copy", flat=True)
    write_evaluation(path / "evaluations/step-000002.json")
    (run,) = find_runs([path]).runs
    assert (run.steps, run.evaluated_after) == (3, 2)
    write_evaluation(path / "evaluations/final.json")
    assert read_run(path, []).evaluated_after == 3


def test_the_train_folder_stands_for_its_run(tmp_path: Path) -> None:
    write_evaluation(write_run(tmp_path / "run") / "evaluations/final.json")
    (run,) = find_runs([tmp_path / "run" / "train"]).runs
    assert run.name == "run"
    assert run.final is not None


def test_a_sweep_is_all_of_its_runs_and_its_start(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    for seed in (1, 0):
        write_run(sweep / f"gmpo-s{seed}", seed=seed)
    (sweep / "start" / "sft").mkdir(parents=True)
    write_evaluation(sweep / "start/evaluations/final.json")
    (sweep / "gmpo-s2").mkdir()
    (sweep / "gmpo-s2" / "config.yaml").write_text("run_folder: x\n")  # its turn has not come
    write_run(sweep / "gmpo-s3", steps=0, seed=3)
    found = find_runs([sweep])
    assert [run.name for run in found.runs] == ["gmpo-s0", "gmpo-s1"]
    assert list(found.starts) == ["start"]
    assert [(list(run.evaluations), run.final) for run in found.runs] == [([0], None)] * 2, (
        "it is none of their own"
    )
    assert [note.rpartition("/")[2] for note in found.notes] == [
        "gmpo-s2: no rollout step yet; left out",
        "gmpo-s3: no rollout step yet; left out",
    ]


def test_runs_of_one_name_get_their_parents(tmp_path: Path) -> None:
    for sweep in ("one", "two"):
        write_run(tmp_path / sweep / "gmpo-s0")
        write_evaluation(tmp_path / sweep / "start/evaluations/final.json")
    found = find_runs([tmp_path / "one", tmp_path / "two"])
    assert [run.name for run in found.runs] == ["one/gmpo-s0", "two/gmpo-s0"]
    assert list(found.starts) == ["one/start", "two/start"]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    (run,) = find_runs([write_run(tmp_path / "run", steps=2, rollout_steps=5)]).runs
    assert (run.steps, run.is_finished, run.final) == (2, False, None)


def test_a_torn_last_line_is_left_out_and_told(tmp_path: Path) -> None:
    found = find_runs([write_run(tmp_path / "run", tail='{"step": 4, "rollout/succ')])
    assert found.runs[0].steps == 3
    (note,) = found.notes
    assert "metrics.jsonl: the last line is torn" in note


def test_evaluations_of_steps_that_were_cut_off_do_not_count(tmp_path: Path) -> None:
    # As after a resume from step 2: the evaluation of step 3 is of weights that are gone.
    path = write_run(tmp_path / "run", steps=2)
    write_evaluation(path / "train/evaluations/step-000003.json")
    assert read_run(path, []).evaluations == {}


def test_a_game_without_a_scored_repeat_is_not_there(tmp_path: Path) -> None:
    evaluation = read_evaluation(
        write_evaluation(tmp_path / "e.json", games={"a1": [], "b1": [True]})
    )
    assert list(evaluation.splits["valid_seen"]) == ["b1"]


def test_the_rollout_step_of_an_evaluation(tmp_path: Path) -> None:
    assert read_evaluation(write_evaluation(tmp_path / "step-000040.json")).step == 40
    assert read_evaluation(write_evaluation(tmp_path / "mine.json")).step is None
    assert read_evaluation(tmp_path / "mine.json", step=9).step == 9


# Bad input


def test_no_such_folder_names_those_there_are(tmp_path: Path) -> None:
    write_run(tmp_path / "run-a")
    message = error_of(tmp_path / "run-b")
    assert "run-b: no such folder; there are: " in message
    assert "run-a" in message


def test_an_empty_folder(tmp_path: Path) -> None:
    assert not is_run(tmp_path)
    assert f"{tmp_path}: no run: there is no train/metrics.jsonl" in error_of(tmp_path)


@pytest.mark.parametrize("with_file", [True, False])
def test_a_run_without_a_rollout_step(tmp_path: Path, with_file: bool) -> None:
    path = write_run(tmp_path / "run", steps=0)
    if not with_file:
        (path / "train" / "metrics.jsonl").unlink()
    assert "metrics.jsonl: no rollout step yet; wait for the first" in error_of(path)


def test_a_run_with_nothing_but_a_torn_line(tmp_path: Path) -> None:
    assert "no rollout step yet" in error_of(write_run(tmp_path / "run", steps=0, tail='{"step"'))


def test_a_torn_line_in_the_middle(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", steps=2, tail='{"step": 3, "ro\n{"step": 4}\n')
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
    assert said in error_of(write_run(tmp_path / "run", tail=tail))


@pytest.mark.parametrize(
    ("config", "said"), [("run_folder: x\nsede: 0\n", "did you mean 'seed'?"), (None, "no such")]
)
def test_a_config_of_another_version(tmp_path: Path, config: str | None, said: str) -> None:
    path = write_run(tmp_path / "run")
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


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("version", [1, 3, None])
def test_an_evaluation_of_another_version(tmp_path: Path, version: int | None) -> None:
    path = write_run(tmp_path / "run")
    file = write_evaluation(path / "evaluations/final.json")
    changed(file, version=version)
    message = error_of(path)
    assert f"{file}: version: {version}; this reads 2; evaluate again" in message


def test_a_torn_evaluation(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run")
    file = write_evaluation(path / "train/evaluations/step-000001.json")
    file.write_text(file.read_text()[:30])
    assert f"{file}: not whole JSON" in error_of(path)


def test_an_evaluation_without_games(tmp_path: Path) -> None:
    file = write_evaluation(tmp_path / "e.json")
    changed(file, splits={"valid_seen": {"overall": {}}})
    with pytest.raises(
        ConfigError, match=r"e\.json: splits\.valid_seen\.games: Field required; .* evaluate again"
    ):
        read_evaluation(file)


def test_a_game_twice(tmp_path: Path) -> None:
    file = write_evaluation(tmp_path / "e.json")
    game = {"id": "a1", "family": "a", "success": [True]}
    changed(file, splits={"valid_seen": {"games": [game, game]}})
    with pytest.raises(ConfigError, match="game 'a1' is there twice"):
        read_evaluation(file)
