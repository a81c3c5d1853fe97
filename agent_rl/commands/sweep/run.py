"""Runs a sweep: several variants and seeds from one start, one run after the other, compared.

    run_folder: runs/objectives
    ...
    sweep:
      seeds: [0, 1, 2]
      variants:
        gmpo: {learner.objective: gmpo}
        grpo: {learner.objective: grpo, learner.learning_rate: 2.0e-4}

`agent-rl sweep CONFIG` does all of it. It may be stopped or killed at any time: the same command
resumes it. Finished runs are not made again, an unfinished run resumes from its last checkpoint,
and a failed run does not end the sweep. With a `grid`, each variant has a run at each of its points
(`agent_rl.commands.sweep.grid`).
"""

import subprocess
import sys
from collections.abc import Callable
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.commands.compare.runs import has_begun
from agent_rl.commands.sweep.attempt import (
    Command,
    attempt,
    process_command,
    read_attempts,
    stopped_by_signals,
    sweep_lock,
)
from agent_rl.commands.sweep.plan import (
    Sweep,
    SweepJob,
    SweepProgress,
    progress_of_run,
    progress_of_start,
)
from agent_rl.display import console, interval, percent, say
from agent_rl.evaluation.report import read_report
from agent_rl.runs.trackers.packages import require_trackers

STOPPED = 130
"""The exit status after Ctrl-C."""

Plan = list[tuple[SweepJob, SweepProgress]]
"""The start, then the runs, each with its progress."""


def make_plan(sweep: Sweep) -> Plan:
    """The jobs of a sweep with their progress.

    Raises:
        ConfigError: a folder was made with another config.
    """
    plan = [(sweep.start, progress_of_start(sweep))]
    for run in sweep.runs:
        plan.append((run, progress_of_run(run)))
    return plan


def comparison_command(sweep: Sweep) -> list[str]:
    """The command line of the comparison, which names the variants; with a grid, of its map.

    It runs in another process: its failure cannot end the sweep.
    """
    if sweep.axes:
        # A comparison tests all pairs of variants, and a grid has hundreds.
        return [sys.executable, "-m", "agent_rl.cli", "sweep", *sweep.words, "--map"]
    begun = dict.fromkeys(run.variant for run in sweep.runs if has_begun(run.folder))
    labels = [f"--label={variant}={variant}-s[0-9]*" for variant in begun]
    return [sys.executable, "-m", "agent_rl.cli", "compare", str(sweep.folder), *labels]


def run_sweep(
    sweep: Sweep,
    *,
    command: Command = process_command,
    comparison: Callable[[Sweep], list[str]] = comparison_command,
) -> int:
    """Do the rest of a sweep, with a comparison after each seed of all variants.

    Args:
        sweep: the sweep.
        command: gives the command line of a job.
        comparison: gives the command line of the comparison.

    Returns:
        The exit status: 0 if all runs are done and compared.

    Raises:
        ConfigError: the folder was made with another config, another sweep is at work in it, or
            the package of a tracker is missing.
    """
    for job in (sweep.start, *sweep.runs):
        require_trackers(job.config)
    with sweep_lock(sweep.folder) as lock, stopped_by_signals():
        plan = make_plan(sweep)
        show_plan(plan)
        (start, start_progress), *runs = plan
        try:
            ready = start_progress.next_step == "done"
            if not ready and not _succeeds(start, start_progress, command, lock):
                say(f"without its start, no run can begin: {_failure(start)}")
                return 1
            failed, compared = _make_runs(runs, command, lambda: comparison(sweep), lock)
        except KeyboardInterrupt:
            say(f"stopped; the results so far are in {sweep.folder}; the same command resumes")
            return STOPPED
    for run in failed:
        say(f"{run.name} failed: {_failure(run)}")
    if failed:
        say(
            f"{len(failed)} of {len(runs)} runs failed; the same command tries them again, and "
            "leaves the others alone"
        )
    return 0 if compared and not failed else 1


def show_plan(plan: Plan) -> None:
    """Print the settings of each variant, and the progress of each run."""
    _, *runs = plan
    console.print(_variants_table(runs))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("state")
    for job, progress in plan:
        table.add_row(escape(job.name), escape(_state(job, progress)))
    console.print(table)
    estimate = _time_left(runs, runs)
    if estimate:
        say(estimate)


def _variants_table(runs: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in ("variant", "ratio", "clip", "normalisation", "advantage", "rate", "episodes"):
        table.add_column(head)
    first_runs = {run.variant: run for run, _ in runs}
    for variant, run in first_runs.items():
        train, learner = run.config.train, run.config.learner
        objective = learner.chosen_objective
        clip = str(objective.clip)
        if objective.clip != "none":
            clip += f" -{objective.epsilon:g} +{objective.epsilon_high:g}"
        episodes = train.rollout_steps * train.tasks_per_step * train.num_generations
        table.add_row(
            escape(variant),
            objective.aggregation,
            clip,
            objective.normalisation,
            objective.advantage,
            f"{learner.learning_rate:g}",
            f"{episodes:,}",
        )
    return table


def _make_runs(
    runs: Plan, command: Command, comparison: Callable[[], list[str]], lock: int
) -> tuple[list[SweepJob], bool]:
    """Do the rest of all runs; returns the failed ones, and whether the last comparison worked."""
    failed: list[SweepJob] = []
    left = list(runs)
    compared = True
    # The runs are in the order of their seeds: a group has all variants with one seed.
    for seed, of_seed in groupby(runs, key=lambda pair: pair[0].config.seed):
        worked = False
        for run, progress in list(of_seed):
            left.pop(0)
            if progress.next_step == "done":
                say(f"{run.name}: done before, {_result(run)}")
                continue
            worked = True
            if not _succeeds(run, progress, command, lock):
                failed.append(run)
            count = f"{len(runs) - len(left)} of {len(runs)} runs, {len(failed)} failed"
            estimate = _time_left(runs, left)
            say(f"{count}; {estimate}" if estimate else count)
        if worked or not left:
            console.rule(f"Comparison up to seed {seed}", align="left")
            compared = subprocess.run(comparison(), check=False).returncode == 0
    return failed, compared


def _succeeds(job: SweepJob, progress: SweepProgress, command: Command, lock: int) -> bool:
    """Do the rest of a job; returns whether it succeeded."""
    console.rule(escape(f"{job.name}: {_state(job, progress)}"), align="left")
    ended = attempt(job, progress, command, lock)
    if ended.exit:
        say(f"{job.name} failed after {_duration(ended.seconds)}: {_failure(job)}")
        return False
    say(f"{job.name}: {_result(job)}, in {_duration(ended.seconds)}")
    return True


def _state(job: SweepJob, progress: SweepProgress) -> str:
    """A job's progress in words, with the error of the last attempt."""
    if progress.next_step == "done":
        return f"done, {_result(job)}"
    if progress.next_step == "new":
        state = "to do"
    elif progress.next_step == "evaluate":
        state = "to evaluate"
    else:
        state = f"resumes after rollout step {progress.step} of {job.rollout_steps}"
    attempts = read_attempts(job)
    if attempts and attempts[-1].error:
        state += f" (the last time: {attempts[-1].error})"
    return state


def _result(job: SweepJob) -> str:
    """A finished job's success on each split, with its interval."""
    parts = []
    for name, split in read_report(job.layout.final_report).splits.items():
        score = split.overall
        ends = interval(score.interval, digits=0)
        parts.append(f"{percent(score.success)} % ({ends}) on {name}")
    return ", ".join(parts)


def _failure(job: SweepJob) -> str:
    """Why a job's last attempt failed, and where to read more."""
    return f"{read_attempts(job)[-1].error} (all of it: {job.layout.log_file})"


def _time_left(runs: Plan, left: Plan) -> str:
    """An estimate of the time that the runs in `left` take; empty if no run has ended yet.

    It multiplies the rollout steps that are left by the time per step of the attempts that
    succeeded. That time has a step's share of the start-up and of the final evaluation in it.
    """
    steps_done, seconds = 0, 0.0
    for run, _ in runs:
        for ended in read_attempts(run):
            if not ended.exit:
                steps_done += ended.steps
                seconds += ended.seconds
    steps_left = sum(run.rollout_steps - progress.step for run, progress in left)
    if not steps_done or not steps_left:
        return ""
    return f"about {_duration(steps_left * seconds / steps_done)} left"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02} min"
