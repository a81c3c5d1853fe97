"""The grid of a sweep: which variants it makes, their names, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.sweep.grid import axes_of, cells_of
from agent_rl.commands.sweep.plan import read_sweep
from agent_rl.config import ConfigError, SweepSettings
from tests.builders.sweeps import write_config

AGE = {"young": {"learner.optimizer_steps": 2}, "old": {"learner.optimizer_steps": 8}}
ARMS = {"gmpo": {}, "grpo": {"learner.objective": "grpo"}}


def settings_of(grid: dict[str, Any], variants: dict[str, Any] | None = None) -> SweepSettings:
    return SweepSettings.model_validate({"grid": grid, "variants": variants or ARMS})


def test_all_variants_are_at_each_point_and_the_last_axis_is_inside(tmp_path: Path) -> None:
    grid = {"age": AGE, "train.look_ahead": [0, 2]}
    sweep = read_sweep(
        write_config(tmp_path, sweep={"seeds": [0, 4], "variants": ARMS, "grid": grid})
    )
    assert [run.name for run in sweep.runs[:5]] == [
        "gmpo-young-look_ahead-0-s0",
        "grpo-young-look_ahead-0-s0",
        "gmpo-young-look_ahead-2-s0",
        "grpo-young-look_ahead-2-s0",
        "gmpo-old-look_ahead-0-s0",
    ]
    assert len(sweep.runs) == 16
    last = sweep.runs[-1]
    assert (last.arm, last.points) == ("grpo", {"age": "old", "train.look_ahead": "look_ahead-2"})
    config = last.config
    assert (config.learner.objective, config.learner.optimizer_steps) == ("grpo", 8)
    assert (config.train.look_ahead, config.seed) == (2, 4)
    assert config.run_folder == str(tmp_path / "sweep" / "grpo-old-look_ahead-2-s4")
    assert sweep.axes == {
        "age": ["young", "old"],
        "train.look_ahead": ["look_ahead-0", "look_ahead-2"],
    }


def test_without_a_grid_a_variant_is_a_cell() -> None:
    assert [cell.name for cell in cells_of(settings_of({}))] == ["gmpo", "grpo"]


def test_values_are_named_as_people_write_them() -> None:
    axes = axes_of(
        settings_of({"learner.learning_rate": [1e-4, 0.00002], "learner.beta": [0, 0.5]})
    )
    assert [list(points) for points in axes.values()] == [
        ["learning_rate-0.0001", "learning_rate-2e-05"],
        ["beta-0", "beta-0.5"],
    ]


@pytest.mark.parametrize(
    ("grid", "variants", "message"),
    [
        (
            {"learner.objective": ["gmpo", "grpo"]},
            ARMS,
            r"c\.yaml: sweep: learner\.objective: both sweep\.variants\.grpo and "
            r"sweep\.grid\.learner\.objective set it",
        ),
        (
            {"age": AGE, "learner.optimizer_steps": [1]},
            ARMS,
            r"both sweep\.grid\.age and sweep\.grid\.learner\.optimizer_steps set it",
        ),
        ({"train.look_ahead": [1, 1]}, ARMS, r"sweep\.grid\.train\.look_ahead: 1 is there twice"),
        (
            {"learner.betas": [[0.9, 0.99]]},
            ARMS,
            r"\[0\.9, 0\.99\] can be no part of a folder's name; name the points instead, as in "
            r"betas: \{one: \{learner\.betas: \.\.\.\}\}",
        ),
        (
            {"x": {"b-c": {}, "c": {}}},
            {"a": {}, "a-b": {"learner.beta": 1}},
            r"two runs would have the folder a-b-c-s\.\.\., one of a at b-c and one of a-b at c",
        ),
        ({"x": {"a/b": {}}}, ARMS, "'a/b' is part of a folder's name"),
        ({"x": []}, ARMS, "x: an axis has at least one point"),
        ({"x": {"one": {"sft.epochs": 9}}}, ARMS, r"gmpo-one: sft\.epochs: all runs start from"),
        ({"x": {"one": {}, "two": {}}}, ARMS, "gmpo-one and gmpo-two are the same"),
        (
            {"learner.optimizer_steps": [4, 9]},
            ARMS,
            r"sweep\.variants\.gmpo-optimizer_steps-9: .*cannot share the 8 episodes",
        ),
    ],
)
def test_what_a_grid_refuses(
    grid: dict[str, Any], variants: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_config(tmp_path, sweep={"seeds": [0], "variants": variants, "grid": grid})
    with pytest.raises(ConfigError, match=message):
        read_sweep(path)


def test_a_part_of_the_grid_by_name(tmp_path: Path) -> None:
    path = write_config(tmp_path, sweep={"seeds": [0], "variants": ARMS, "grid": {"age": AGE}})
    some = read_sweep(path, only="grpo-*, *-young")
    assert [run.variant for run in some.runs] == ["gmpo-young", "grpo-young", "grpo-old"]
    assert some.axes == {"age": ["young", "old"]}
    with pytest.raises(
        ConfigError, match=r"--only gpo-\*: no variant has .* first are: gmpo-young"
    ):
        read_sweep(path, only="gpo-*")
