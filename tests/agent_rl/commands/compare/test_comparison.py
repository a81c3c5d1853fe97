"""A comparison's values, from runs whose numbers can be worked out by hand."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agent_rl.commands.compare.comparison import (
    OVERALL,
    compare,
    scores,
)
from agent_rl.commands.compare.evaluations import Evaluation
from agent_rl.commands.compare.runs import NEEDED, Found, Run
from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.statistics import bootstrap_by_game, wilson_interval
from tests.builders.comparisons import games


def evaluation(step: int, **splits: Mapping[str, str]) -> Evaluation:
    named = {split: games(outcomes) for split, outcomes in splits.items()}
    return Evaluation(path=Path(f"step-{step}.json"), step=step, setting={}, splits=named)


def run(
    name: str,
    seed: int = 0,
    *,
    objective: str = "gmpo",
    success: Sequence[float] = (0.5,),
    evaluations: Sequence[Evaluation] = (),
    **metrics: float,
) -> Run:
    base = {
        **dict.fromkeys(NEEDED, 1.0),
        **{key.replace("__", "/"): value for key, value in metrics.items()},
    }
    config = {
        "run_folder": name,
        "seed": seed,
        "learner": {"objective": objective},
        "train": {"rollout_steps": 12},
    }
    return Run(
        path=Path(name),
        name=name,
        config=Config.model_validate(config),
        metrics=tuple({**base, "rollout/success": value} for value in success),
        evaluations={one.step: one for one in evaluations if one.step is not None},
    )


def found(*runs: Run, starts: Mapping[str, Evaluation] | None = None) -> Found:
    return Found(runs=runs, starts=starts or {}, notes=())


# Scores


def test_scores_by_family_over_seeds_and_repeats() -> None:
    by_seed = {
        0: games({"a1": "11", "a2": "10", "b1": "00"}),
        1: games({"a1": "10", "a2": "00", "b1": "01"}),
    }
    result = scores(by_seed)
    assert list(result) == [OVERALL, "a", "b"]
    # a1 has 3 of 4, a2 1 of 4, b1 1 of 4.
    assert result["a"].success == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert result[OVERALL].success == pytest.approx((3 / 4 + 1 / 4 + 1 / 4) / 3)
    assert (result[OVERALL].games, result[OVERALL].episodes) == (3, 12)
    assert (result["b"].games, result["b"].episodes) == (1, 4)
    assert result[OVERALL].interval == bootstrap_by_game([[1.0, 0.5], [0.5, 0.0], [0.0, 0.5]])
    assert result[OVERALL].over_seeds.seeds == pytest.approx(
        {0: (1 + 0.5 + 0) / 3, 1: (0.5 + 0 + 0.5) / 3}
    )
    assert result[OVERALL].over_seeds.centre == pytest.approx(5 / 12)


def test_one_run_with_one_repeat_has_wilsons_interval() -> None:
    result = scores({0: games({"a1": "1", "a2": "0", "a3": "1"})})
    assert result[OVERALL].interval == wilson_interval(2, 3)


def test_one_run_with_repeats_has_the_bootstraps_interval() -> None:
    result = scores({0: games({"a1": "111", "a2": "000", "a3": "110"})})
    assert result[OVERALL].interval == bootstrap_by_game([[1.0], [0.0], [2 / 3]])
    assert result[OVERALL].interval != wilson_interval(2, 3)


def test_games_with_different_numbers_of_repeats_count_alike() -> None:
    result = scores({0: games({"a1": "1111", "a2": "0"})})
    assert result[OVERALL].success == 0.5
    assert result[OVERALL].episodes == 5


# Curves and mechanism


def test_training_curves_are_running_means() -> None:
    comparison = compare(found(run("g", success=[0.0, 1.0, 0.5, 0.5, 0.5, 0.0])))
    (variant,) = comparison.variants
    assert list(variant.training.centre) == pytest.approx([0.0, 0.5, 0.5, 0.5, 0.5, 0.5])


def test_the_end_of_training_is_its_last_ten_steps() -> None:
    (variant,) = compare(found(run("g", success=[1.0, 1.0] + [0.2] * 9 + [0.7]))).variants
    assert variant.recent_success.centre == pytest.approx(0.25)
    assert variant.runs[0].recent_success == pytest.approx(0.25)


def test_held_out_curves_have_each_evaluation() -> None:
    runs = [
        run(
            "g0",
            0,
            success=[0] * 4,
            evaluations=[evaluation(2, s={"a": "1", "b": "0"}), evaluation(4, s={"a": "1"})],
        ),
        run("g1", 1, success=[0] * 4, evaluations=[evaluation(2, s={"a": "0", "b": "0"})]),
        run("g2", 2, success=[0] * 4),
    ]
    (variant,) = compare(found(*runs)).variants
    curve = variant.held_out["s"]
    assert (list(curve.steps), list(curve.centre)) == ([2], [0.25])
    assert curve.seeds == {0: {2: 0.5, 4: 1.0}, 1: {2: 0.0}}


def test_the_final_evaluation_is_the_last_and_not_the_best() -> None:
    one = run(
        "g", success=[0] * 4, evaluations=[evaluation(4, s={"a": "0"}), evaluation(2, s={"a": "1"})]
    )
    (variant,) = compare(found(one)).variants
    assert variant.scores["s"][OVERALL].success == 0.0
    assert (variant.runs[0].evaluation, variant.runs[0].evaluated_after) == ("step-4.json", 4)


def phases(name: str, values: Sequence[float], key: str) -> list[float]:
    lines = [{**dict.fromkeys(NEEDED, 1.0), f"learner/{key}": value} for value in values]
    base = run("g", success=[0] * len(values))
    one = Run(path=base.path, name="g", config=base.config, metrics=tuple(lines), evaluations={})
    (variant,) = compare(found(one)).variants
    of = variant.mechanism[name]
    return [spread.centre for spread in (of.whole, of.first, of.last, of.change, of.deviation)]


def test_phases_by_hand() -> None:
    # Quarters of 9 rollout steps are 2 long.
    values = [0.9, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5, 0.3, 0.1]
    deviation = math.sqrt(4 * 0.2**2 / 8 / 2)  # four of the eight differences are 0.2, the others 0
    assert phases("entropy", values, "entropy") == pytest.approx([0.5, 0.8, 0.2, -0.6, deviation])
    assert phases("grad_norm", [3.0], "grad_norm") == pytest.approx([3.0, 3.0, 3.0, 0.0, 0.0])


def test_the_clip_is_that_of_the_objective() -> None:
    labels = {"gmpo": "log -0.4, +0.4", "dapo": "ratio -0.2, +0.28", "rloo": "none"}
    comparison = compare(found(*(run(name, objective=name) for name in labels)))
    assert {variant.label: variant.clip for variant in comparison.variants} == labels
    assert comparison.variants[1].differs == {"learner.objective": "dapo"}


def test_time_and_tokens_are_sums() -> None:
    one = run("g", success=[0.5] * 3, time__seconds=4.0, time__tokens_per_second=50.0)
    (summary,) = compare(found(one)).variants[0].runs
    assert (summary.seconds, summary.tokens, summary.steps, summary.rollout_steps) == (
        12.0,
        600,
        3,
        12,
    )
    assert not summary.is_finished


def test_checkpoints_and_evaluations_are_not_in_the_time_of_a_run() -> None:
    one = run(
        "g",
        success=[0.5] * 3,
        time__seconds=4.0,
        time__tokens_per_second=50.0,
        time__checkpoint_share=0.25,
        time__evaluation_share=0.25,
    )
    (variant,) = compare(found(one)).variants
    # The tokens a second are of all time.
    assert (variant.runs[0].seconds, variant.runs[0].tokens) == (6.0, 600)


# Splits and tests


def pair(seen_b: Mapping[str, str], *, objective: str = "grpo") -> Found:
    first = run(
        "g",
        success=[0] * 2,
        evaluations=[evaluation(2, seen={"a1": "1", "a2": "1"}, other={"z": "1"})],
    )
    second = run(
        "r", objective=objective, success=[0] * 2, evaluations=[evaluation(2, seen=seen_b)]
    )
    return found(first, second)


def test_the_splits_that_all_have() -> None:
    comparison = compare(pair({"a1": "0", "a2": "0"}))
    assert comparison.splits == ["seen"]
    assert "split other: only some of the final evaluations have it; left out" in comparison.notes
    (test,) = comparison.tests["seen"]
    assert (test.a, test.b, test.difference) == ("gmpo", "grpo", 1.0)


def test_a_split_that_is_not_there() -> None:
    with pytest.raises(
        ConfigError,
        match=r"--split other: not in step-2.json, the final evaluation of r, which has: se",
    ):
        compare(pair({"a1": "0", "a2": "0"}), splits=["other"])
    with pytest.raises(
        ConfigError, match="--split seen: none of these runs has an evaluation; set"
    ):
        compare(found(run("g")), splits=["seen"])


def test_runs_without_an_evaluation_are_compared_by_their_training() -> None:
    comparison = compare(found(run("g"), run("r", objective="grpo")))
    assert (comparison.splits, comparison.tests) == ([], {})
    assert "g: no evaluation" in comparison.notes


def test_other_games_are_refused_where_they_are_paired() -> None:
    other = pair({"a1": "0", "b9": "0"})
    with pytest.raises(ConfigError, match="not evaluated on the same games"):
        compare(other)
    comparison = compare(other, paired=False)
    assert comparison.tests == {}
    assert [variant.scores["seen"][OVERALL].success for variant in comparison.variants] == [
        1.0,
        0.0,
    ]


def test_one_variant_has_nothing_to_be_tested_against() -> None:
    one = run("g0", 0, success=[0], evaluations=[evaluation(1, s={"a": "1"})])
    other = run("g1", 1, success=[0], evaluations=[evaluation(1, s={"b": "1"})])
    assert compare(found(one, other)).tests == {}


def test_against_a_variant() -> None:
    (test,) = compare(pair({"a1": "0", "a2": "0"}), against="gmpo").tests["seen"]
    assert (test.a, test.b, test.difference) == ("grpo", "gmpo", -1.0)
    with pytest.raises(ConfigError, match="--against dapo: no such variant; there are: gmpo, grpo"):
        compare(pair({"a1": "0", "a2": "0"}), against="dapo")


def test_what_sweeps_began_with() -> None:
    one = run("g", success=[0], evaluations=[evaluation(1, s={"a1": "1"})])
    start = evaluation(0, s={"a1": "01", "b1": "00"}, unasked={"a1": "1"})
    result = compare(found(one, starts={"start": start})).starts["start"]
    assert list(result) == ["s"]
    assert result["s"][OVERALL].success == 0.25
