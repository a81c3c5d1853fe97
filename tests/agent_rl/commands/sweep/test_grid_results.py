"""What a grid says, worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.compare.runs import NEEDED
from agent_rl.commands.sweep.attempt import Attempt
from agent_rl.commands.sweep.grid_results import cell_to_confirm, read_grid
from agent_rl.commands.sweep.plan import Sweep, SweepJob, read_sweep
from agent_rl.config import ConfigError
from tests.builders.runs import report
from tests.builders.sweeps import made, write_config

GRID = {
    "age": {"young": {"learner.optimizer_steps": 2}, "old": {"learner.optimizer_steps": 8}},
    "rate": {f"r{n}": {"learner.learning_rate": n * 1e-4} for n in (1, 2, 4)},
}
ARMS = {"gmpo": {}, "grpo": {"learner.objective": "grpo"}}


def won(job: SweepJob, games: int) -> None:
    """Let a job have won so many of twenty games."""
    made(job)
    outcomes = {f"a{number}": [number < games] for number in range(20)}
    report({"valid_seen": outcomes}).write(job.layout.final_report)


def grid_of(folder: Path, wins: dict[str, list[int | None]], **sweep: Any) -> Sweep:
    """A sweep whose start won ten of twenty games.

    Args:
        folder: for the config and the runs.
        wins: by `ARM-AGE-sSEED`: games won at each rate; None is a run to come.
        sweep: keys of the section `sweep`.
    """
    section = {"seeds": [0, 1], "variants": ARMS, "grid": GRID, **sweep}
    path = write_config(folder, sweep=section, evaluation={"split": "valid_seen"})
    found = read_sweep(path)
    won(found.start, 10)
    jobs = {job.name: job for job in found.runs}
    for name, of_rates in wins.items():
        before, _, seed = name.rpartition("-")
        for rate, games in zip(("r1", "r2", "r4"), of_rates, strict=True):
            if games is not None:
                won(jobs[f"{before}-{rate}-{seed}"], games)
    return found


WINS: dict[str, list[int | None]] = {
    # 9 of 20 are five points under the start: still stable. 4 of 20 are below half of it.
    "gmpo-young-s0": [12, 14, 9],
    "gmpo-young-s1": [12, 8, 12],
    "grpo-young-s0": [12, 12, 4],
    "grpo-young-s1": [12, 12, 4],
    "gmpo-old-s0": [10, 5, None],
    "grpo-old-s0": [4, 4, 4],
}


def test_stable_collapsed_and_area_by_hand(tmp_path: Path) -> None:
    results = read_grid(grid_of(tmp_path, WINS))
    assert (results.axis, list(results.xs), results.start.success) == (
        "rate",
        ["r1", "r2", "r4"],
        0.5,
    )
    by_name = {(one.panel, one.arm): one for one in results.curves}
    assert list(by_name) == [(p, a) for p in ("young", "old") for a in ("gmpo", "grpo")]
    young = by_name["young", "gmpo"]
    assert young.highest_stable == {0: 2, 1: 0}
    assert young.stable_in_all == 0
    assert (young.collapsed, young.runs) == (0, 6)
    assert young.area is not None
    # (0.6 + 0.7) / 2 and (0.7 + 0.45) / 2 are 0.65 and 0.575; the other seed has 0.5 twice.
    assert young.area.seeds == pytest.approx({0: 0.6125, 1: 0.5})
    assert list(young.success.centre) == pytest.approx([0.6, 0.55, 0.525])
    grpo = by_name["young", "grpo"]
    assert grpo.highest_stable == {0: 1, 1: 1}
    assert (grpo.collapsed, dict(grpo.collapsed_at)) == (2, {2: 2})
    # A quarter is half of the start's: not below it, so no collapse.
    old = by_name["old", "gmpo"]
    assert (old.collapsed, old.highest_stable, old.area) == (0, {0: 0}, None)
    assert by_name["old", "grpo"].highest_stable == {0: -1}
    assert len(results.missing) == 24 - 17
    assert results.missing[0] == "gmpo-old-r4-s0"


def test_an_unknown_run_before_the_first_unstable_one_leaves_the_seed_open(tmp_path: Path) -> None:
    (one,) = read_grid(grid_of(tmp_path, {"gmpo-young-s0": [12, None, 4]})).curves
    assert (one.highest_stable, one.stable_in_all, one.area) == ({}, None, None)


def test_pairs_have_the_same_seed_and_the_cell_is_chosen_by_the_rule(tmp_path: Path) -> None:
    results = read_grid(grid_of(tmp_path, WINS), pairs=[("gmpo", "grpo")])
    cells = {(pair.panel, pair.x): pair for pair in results.pairs}
    assert list(cells) == [("young", 0), ("young", 1), ("young", 2), ("old", 0), ("old", 1)]
    last = cells["young", 2]
    assert last.differences == pytest.approx({0: 0.25, 1: 0.4})
    assert last.difference == pytest.approx(0.325)
    assert last.interval is not None
    # The deviation is 0.15 / sqrt(2), and t with one degree of freedom 12.706.
    assert last.interval.high == pytest.approx(0.325 + 12.706 * 0.075, abs=1e-4)
    assert (last.collapsed_a, last.collapsed_b, last.p_collapse) == (0, 2, 0.5)
    assert cells["old", 0].interval is None
    # The old cell at the first rate differs by 30 points, and gmpo is stable there.
    assert cell_to_confirm(results.pairs) is last
    # Without it and the other large one, a tie of 0 and one of 5 points are left.
    assert cell_to_confirm([cells["young", 0]]) is None
    assert cell_to_confirm([cells["young", 0], cells["old", 1]]) is None
    # In the old cell at the second rate no arm is stable, whatever the difference.
    assert not cells["old", 1].one_is_stable


def test_a_run_whose_loss_was_not_finite_has_success_0(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, {"gmpo-young-s0": [12, None, None]})
    job = next(job for job in sweep.runs if job.name == "gmpo-young-r2-s0")
    ended = Attempt(
        started="",
        stage="new",
        steps=1,
        seconds=1.0,
        exit=1,
        error="FloatingPointError: the loss of optimizer step 7 is nan: lower learning_rate",
    )
    made(job)
    job.layout.attempts_file.write_text(json.dumps(ended.__dict__) + "\n")
    results = read_grid(sweep)
    assert {run.name: (run.success, run.was_finite) for run in results.runs} == {
        "gmpo-young-r1-s0": (0.6, True),
        "gmpo-young-r2-s0": (0.0, False),
    }
    assert results.curves[0].highest_stable == {0: 0}


def test_metrics_are_means_over_rollout_steps(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, {"gmpo-young-s0": [12, None, None]})
    train = sweep.runs[0].layout.train
    train.folder.mkdir(parents=True)
    train.config_file.write_text(sweep.runs[0].layout.config_file.read_text())
    lines = []
    for step, cosine in enumerate((1.0, 0.5), start=1):
        line = {"step": step, **dict.fromkeys(NEEDED, step / 10), "learner/probe_cosine": cosine}
        lines.append(json.dumps(line) + "\n")
    train.metrics_file.write_text("".join(lines))
    (run,) = read_grid(sweep).runs
    assert run.mechanism["log_ratio_rms"] == pytest.approx(0.15)
    assert run.mechanism["probe_cosine"] == 0.75
    assert "top_share" not in run.mechanism


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    sweep = grid_of(tmp_path, {})
    with pytest.raises(ConfigError, match=r"sweep: no run has ended yet"):
        read_grid(sweep)
    with pytest.raises(ConfigError, match=r"--over ages: no such axis .* there are: age, rate"):
        read_grid(sweep, over="ages")
    with pytest.raises(
        ConfigError, match=r"--pair gmpo,gpo: no variant gpo; there are: gmpo, grpo"
    ):
        read_grid(sweep, pairs=[("gmpo", "gpo")])
    sweep.start.layout.final_report.unlink()
    with pytest.raises(ConfigError, match="the start is not evaluated yet"):
        read_grid(sweep)
    plain = read_sweep(write_config(tmp_path))
    with pytest.raises(ConfigError, match="--map: this sweep has no grid to lay out"):
        read_grid(plain)
