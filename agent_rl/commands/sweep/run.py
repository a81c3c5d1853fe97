"""A sweep: the runs of several variants and seeds from one start, one after the other, and their
comparison.

    run_folder: runs/objectives
    ...
    sweep:
      seeds: [0, 1, 2]
      variants:
        gmpo: {learner.objective: gmpo}
        grpo: {learner.objective: grpo, learner.learning_rate: 2.0e-4}

`agent-rl sweep CONFIG` goes through it. Stopped or killed at any moment and started again, it goes
on where it was: what is done is not done again, a run in the middle goes on from its last
checkpoint, and a failed run ends alone.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from agent_rl.commands.sweep.attempt import (
    LOG,
    Command,
    alone_in,
    attempt,
    process_command,
    read_attempts,
    stopped_by_signals,
)
from agent_rl.commands.sweep.plan import Job, Standing, Sweep, standing, start_standing
from agent_rl.display import console, say

STOPPED = 130
"""The exit status after Ctrl-C."""

Plan = list[tuple[Job, Standing]]
"""The start, then the runs, each with how far it is."""


def make_plan(sweep: Sweep) -> Plan:
    """See how far a sweep is.

    Raises:
        ConfigError: what is there was made with another config.
    """
    return [(sweep.start, start_standing(sweep)), *((run, standing(run)) for run in sweep.runs)]


def comparison_command(sweep: Sweep) -> list[str]:
    """The command line of the comparison, with the variants by their names; its process cannot end
    the sweep.
    """
    begun = {run.variant for run in sweep.runs if _has_metrics(run)}
    names = [name for name in dict.fromkeys(run.variant for run in sweep.runs) if name in begun]
    labels = [f"--label={name}={name}-s[0-9]*" for name in names]
    return [sys.executable, "-m", "agent_rl.cli", "compare", str(sweep.folder), *labels]


def run_sweep(
    sweep: Sweep,
    *,
    command: Command = process_command,
    comparison: Callable[[Sweep], list[str]] = comparison_command,
) -> int:
    """Do what a sweep leaves to do, with a comparison after each pass over the variants; returns
    the exit status.

    Raises:
        ConfigError: the folder was made with another config, or another sweep is at work in it.
    """
    with alone_in(sweep.folder) as lock, stopped_by_signals():
        (start, start_stands), *runs = plan = make_plan(sweep)
        show_plan(plan)
        try:
            if start_stands.stage != "done" and not _done(start, start_stands, command, lock):
                say(f"without its start, no run can begin: {_why_failed(start)}")
                return 1
            failed, compared = _make_runs(runs, command, lambda: comparison(sweep), lock)
        except KeyboardInterrupt:
            say(
                f"stopped; what there is, is in {sweep.folder}, and the same command goes on from there"
            )
            return STOPPED
    for run in failed:
        say(f"{run.name} failed: {_why_failed(run)}")
    if failed:
        say(
            f"{len(failed)} of {len(runs)} runs failed; the same command tries them again, and leaves the others alone"
        )
    return 0 if compared and not failed else 1


def show_plan(plan: Plan) -> None:
    """Print what each variant is, and how far each run."""
    variants = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for head in ("variant", "ratio", "clip", "normalisation", "advantage", "rate", "episodes"):
        variants.add_column(head)
    for run in {job.variant: job for job, _ in plan[1:]}.values():
        train, learner = run.config.train, run.config.learner
        chosen = learner.chosen_objective
        bounds = f" -{chosen.epsilon:g} +{chosen.epsilon_high:g}" if chosen.clip != "none" else ""
        what = (chosen.aggregation, chosen.clip + bounds, chosen.normalisation, chosen.advantage)
        episodes = train.rollout_steps * train.tasks_per_step * train.num_generations
        variants.add_row(escape(run.variant), *what, f"{learner.learning_rate:g}", f"{episodes:,}")
    console.print(variants)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("state")
    for job, stands in plan:
        table.add_row(escape(job.name), escape(_state(job, stands)))
    console.print(table)
    if estimate := _time_left(plan[1:]):
        say(estimate)


def _make_runs(
    runs: Plan, command: Command, comparison: Callable[[], list[str]], lock: int
) -> tuple[list[Job], bool]:
    """Go through the runs; returns those that failed, and whether the last comparison could be
    made.
    """
    failed: list[Job] = []
    left = list(runs)
    compared = True
    for seed, a_pass in groupby(runs, key=lambda pair: pair[0].config.seed):
        worked = False
        for run, stands in list(a_pass):
            left.pop(0)
            if stands.stage == "done":
                say(f"{run.name}: done before, {_result(run)}")
                continue
            worked = True
            if not _done(run, stands, command, lock):
                failed.append(run)
            count = f"{len(runs) - len(left)} of {len(runs)} runs, {len(failed)} failed"
            say("; ".join(filter(None, (count, _time_left(runs, left)))))
        if worked or not left:
            console.rule(f"Comparison up to seed {seed}", align="left")
            compared = subprocess.run(comparison(), check=False).returncode == 0
    return failed, compared


def _done(job: Job, stands: Standing, command: Command, lock: int) -> bool:
    """Do a job; whether it was done."""
    console.rule(escape(f"{job.name}: {_state(job, stands)}"), align="left")
    ended = attempt(job, stands, command, lock)
    if ended.exit:
        say(f"{job.name} failed after {_duration(ended.seconds)}: {_why_failed(job)}")
        return False
    say(f"{job.name}: {_result(job)}, in {_duration(ended.seconds)}")
    return True


def _state(job: Job, stands: Standing) -> str:
    """What is to be said of a job before it is done."""
    if stands.stage == "done":
        return f"done, {_result(job)}"
    steps = job.rollout_steps
    state = {
        "new": "to do",
        "resume": f"goes on after rollout step {stands.step} of {steps}",
        "evaluate": "to evaluate",
    }[stands.stage]
    before = read_attempts(job)
    return f"{state} (the last time: {before[-1].error})" if before and before[-1].error else state


def _result(job: Job) -> str:
    """A finished job's success on each split, with its interval."""
    splits = json.loads(job.report.read_text())["splits"]
    parts = []
    for name, split in splits.items():
        score = split["overall"]
        low, high = score["interval"]
        parts.append(f"{100 * score['success']:.1f} % ({100 * low:.0f}-{100 * high:.0f}) on {name}")
    return ", ".join(parts)


def _has_metrics(run: Job) -> bool:
    """Whether a comparison finds a run: from its first rollout step on."""
    metrics = run.folder / "train" / "metrics.jsonl"
    return metrics.is_file() and metrics.stat().st_size > 0


def _why_failed(job: Job) -> str:
    return f"{read_attempts(job)[-1].error} (all of it: {job.folder / LOG})"


def _time_left(runs: Plan, left: Plan | None = None) -> str:
    """How long the runs that are `left` (all, unless told) will take, by what a rollout step took
    in those that ended.

    A step's share of the start-up and of the final evaluation is in it. Empty where there is
    nothing to tell from.
    """
    ended = [one for run, _ in runs for one in read_attempts(run) if not one.exit]
    steps = sum(one.steps for one in ended)
    to_do = sum(run.rollout_steps - stands.step for run, stands in (runs if left is None else left))
    if not steps or not to_do:
        return ""
    return f"about {_duration(to_do * sum(one.seconds for one in ended) / steps)} left"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
