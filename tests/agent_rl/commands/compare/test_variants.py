from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.compare.evaluations import Evaluation
from agent_rl.commands.compare.runs import Run
from agent_rl.commands.compare.variants import differing, grouped, notes_on
from agent_rl.config import Config, ConfigError
from agent_rl.config.keys import EXECUTION_KEYS, flat_values


def run(
    name: str,
    seed: int = 0,
    *,
    steps: int = 2,
    setting: Mapping[str, Any] | None = None,
    **sections: Any,
) -> Run:
    """A run of `steps` of 2 rollout steps, evaluated after its last where `setting` is given."""
    train = {"rollout_steps": 2, **sections.pop("train", {})}
    values = {"run_folder": f"runs/{name}", "seed": seed, "train": train, **sections}
    evaluations = {}
    if setting is not None:
        evaluations[steps] = Evaluation(
            path=Path("final.json"), step=steps, setting=setting, splits={}
        )
    return Run(
        path=Path("runs") / name,
        name=name,
        config=Config.model_validate(values),
        metrics=({},) * steps,
        evaluations=evaluations,
    )


GMPO: dict[str, Any] = {"learner": {"objective": "gmpo"}}
GRPO: dict[str, Any] = {"learner": {"objective": "grpo"}}


def test_runs_that_differ_in_the_seed_are_one_variant() -> None:
    runs = [run("b", 1, **GMPO), run("c", 0, **GRPO), run("a", 0, **GMPO)]
    variants = grouped(runs, {})
    assert {label: [one.name for one in of] for label, of in variants.items()} == {
        "gmpo": ["a", "b"],
        "grpo": ["c"],
    }
    assert differing(variants.values()) == ["learner.objective"]


def test_how_the_work_is_shared_out_makes_no_variant() -> None:
    runs = [
        run("a", 0),
        run("b", 1, workers={"count": 7}, learner={"threads": 3}, train={"checkpoint_every": 1}),
        run("c", 2, sweep={"seeds": [1, 2], "variants": {"x": {}}}),
    ]
    (of,) = grouped(runs, {}).values()
    assert len(of) == 3
    (note,) = [note for note in notes_on({"gmpo": of}) if "differ" in note]
    assert note.startswith(
        "gmpo: its seeds differ in workers.count, learner.threads, train.checkpoint_every"
    )


def test_the_keys_that_make_no_variant_exist() -> None:
    assert set(EXECUTION_KEYS) <= set(flat_values(run("a").config))


def test_labels_name_what_differs() -> None:
    runs = [
        run("a", learner={"objective": "gmpo", "epsilon": 0.2}),
        run("b", learner={"objective": "gmpo"}),
        run("c", learner={"objective": "grpo"}),
    ]
    assert list(grouped(runs, {})) == ["gmpo, epsilon=0.2", "gmpo", "grpo"]


def test_labels_without_an_objective_that_differs() -> None:
    runs = [
        run("a"),
        run("b", learner={"learning_rate": 0.5}),
        run("c", train={"temperature": 0.7}),
    ]
    assert list(grouped(runs, {})) == [
        "learning_rate=1e-06, temperature=1.0",
        "learning_rate=0.5, temperature=1.0",
        "learning_rate=1e-06, temperature=0.7",
    ]
    unset = [run("a"), run("b", learner={"epsilon": 0.2})]
    assert list(grouped(unset, {})) == ["gmpo", "epsilon=0.2"]


def test_keys_with_one_last_part_are_written_whole() -> None:
    runs = [run("a"), run("b", train={"temperature": 0.7}, evaluation={"temperature": 0.1})]
    assert list(grouped(runs, {}))[1] == "evaluation.temperature=0.1, train.temperature=0.7"


def test_labels_that_are_given() -> None:
    runs = [run("gmpo-s0", 0), run("gmpo-s1", 1), run("lr-s0", learner={"learning_rate": 0.5})]
    assert list(grouped(runs, {"base": "gmpo-s*", "fast": "lr-s0"})) == ["base", "fast"]
    with pytest.raises(
        ConfigError, match=r"--label x=z\*: matches no run; there are: gmpo-s0, gmpo-s1, lr-s0"
    ):
        grouped(runs, {"x": "z*"})
    with pytest.raises(
        ConfigError,
        match=r"--label x=\*-s0: matches runs whose configs differ, in learner.learning_rate",
    ):
        grouped(runs, {"x": "*-s0"})
    with pytest.raises(ConfigError, match="two variants have one name"):
        grouped(runs, {"learning_rate=0.5": "gmpo-s*"})


def test_a_seed_twice_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"runs/a and runs/b have the same config and the same seed 4"
    ):
        grouped([run("a", 4), run("b", 4)], {})
    assert len(grouped([run("a", 4, **GMPO), run("b", 4, **GRPO)], {})) == 2


def test_notes_on_what_is_not_alike() -> None:
    variants = {
        "gmpo": [run("g0", 0, setting={"temperature": 0.4}), run("g1", 1, steps=1)],
        "grpo": [run("r0", 0, setting={"temperature": 1.0, "model": "x"})],
    }
    assert notes_on(variants) == [
        "g1: unfinished: 1 of 2 rollout steps",
        "g1: no evaluation",
        "fewer than 5 seeds: gmpo, grpo; success over seeds has a range and no interval",
        "the variants have different seeds: gmpo: 0, 1; grpo: 0",
        "the final evaluations differ in temperature: 0.4, 1.0",
    ]


def test_a_last_evaluation_before_the_end_has_a_note() -> None:
    early = Evaluation(path=Path("step-000001.json"), step=1, setting={}, splits={})
    runs = [run(f"a{seed}", seed, setting={}) for seed in range(5)]
    late = Run(
        path=Path("a5"), name="a5", config=runs[0].config, metrics=({},) * 2, evaluations={1: early}
    )
    assert notes_on({"gmpo": runs}) == []
    assert notes_on({"gmpo": [*runs, late]}) == ["a5: last evaluated after rollout step 1 of 2"]
