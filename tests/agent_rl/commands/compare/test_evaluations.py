"""Which evaluation of a run counts, and after which rollout step."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.compare.evaluations import read_evaluation
from agent_rl.commands.compare.runs import find_runs, read_run
from agent_rl.config import ConfigError
from tests.builders.comparisons import write_evaluation, write_training


def test_evaluations_made_afterwards_take_the_place_of_those_in_training(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
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
    path = write_training(tmp_path / "run")
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


def test_each_split_has_its_own_evaluation(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
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
    # Another one on the split of the final evaluation does not replace it, and a note says so.
    write_evaluation(
        path / "evaluations/step-000003-valid_seen-t0.4-bb.json", games={"a1": [False] * 9}
    )
    run = read_run(path, notes)
    assert run.final is not None
    assert run.final.splits["valid_seen"]["a1"].success == (True,)
    (note,) = notes
    assert note.endswith(
        "final.json: on valid_seen this evaluation of its policy counts; not: "
        "step-000003-valid_seen-t0.4-bb.json"
    )


def test_an_evaluation_as_the_config_says_counts_before_a_larger_one(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
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
    path = write_training(tmp_path / "run")
    final = write_evaluation(
        path / "evaluations/final.json", model="runs/x/train/checkpoints/step-000002/model"
    )
    # `agent-rl evaluate` writes each report under its own name, too.
    final.with_name("step-000002-valid_seen-t0.4-aa.json").write_bytes(final.read_bytes())
    notes: list[str] = []
    run = read_run(path, notes)
    assert list(run.evaluations) == [2], "the run was made longer afterwards"
    assert (run.evaluations[2].path, run.evaluations[2].others, notes) == (final, (), [])


def test_evaluations_of_steps_that_were_cut_off_do_not_count(tmp_path: Path) -> None:
    # As after a resume from step 2: the evaluation of step 3 is of weights that are gone.
    path = write_training(tmp_path / "run", steps=2)
    write_evaluation(path / "train/evaluations/step-000003.json")
    assert read_run(path, []).evaluations == {}


def test_a_game_without_a_scored_repeat_is_left_out(tmp_path: Path) -> None:
    file = write_evaluation(tmp_path / "e.json")
    record = json.loads(file.read_text())
    record["splits"]["valid_seen"]["games"][0] |= {"success": [], "turns": []}
    file.write_text(json.dumps(record))
    assert list(read_evaluation(file).splits["valid_seen"]) == ["b1"]


def test_the_rollout_step_of_an_evaluation(tmp_path: Path) -> None:
    assert read_evaluation(write_evaluation(tmp_path / "step-000040.json")).step == 40
    assert read_evaluation(write_evaluation(tmp_path / "mine.json")).step is None
    assert read_evaluation(tmp_path / "mine.json", step=9).step == 9


@pytest.mark.parametrize("changes", [{"version": 1}, {"version": None}, {"splits": {"s": {}}}])
def test_an_evaluation_of_another_version_names_its_file_and_the_ways_out(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = write_training(tmp_path / "run")
    file = write_evaluation(path / "evaluations/final.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(ConfigError) as refused:
        find_runs([path])
    assert str(refused.value).startswith(f"{file}: is ")
    assert str(refused.value).endswith(
        "; evaluate again; or move the file away to compare the rest"
    )


def test_a_torn_evaluation(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    file = write_evaluation(path / "train/evaluations/step-000001.json")
    file.write_text(file.read_text()[:30])
    with pytest.raises(ConfigError, match=f"{file}: is no evaluation report"):
        find_runs([path])
