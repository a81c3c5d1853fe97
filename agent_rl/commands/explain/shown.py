"""Shows an explanation at the terminal."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from agent_rl.commands.explain.explanation import Explanation
from agent_rl.commands.explain.reasons import (
    other_terms,
    tokens_of,
    turn_reasons,
    why_not_trained,
)
from agent_rl.config import ConfigError
from agent_rl.display import console, say, show_ending, show_observation, show_outcome
from agent_rl.runs.token_records import CLIPPED, Numbers
from agent_rl.training.groups import outcome

_COMPARED = (
    "log_ratio_rms",
    "clip_fraction_low",
    "clip_fraction_high",
    "clip_fraction_dual",
    "entropy",
    "mismatch_abs_mean",
    "left_out_share",
)
"""Metrics of the step that are shown from the records beside those that the learner logged."""


def show_explanation(explanation: Explanation, *, only_turn: int | None = None) -> None:
    """Print an explanation, turn by turn.

    Args:
        only_turn: shows this turn alone, from 1, with each of its tokens.

    Raises:
        ConfigError: there is no such turn.
    """
    turns = explanation.trajectory.turns
    if only_turn is not None and not 1 <= only_turn <= len(turns):
        raise ConfigError(
            f"--turn {only_turn}: episode {explanation.id} has the turns 1 to {len(turns)}"
        )
    _show_head(explanation)
    for index in range(len(turns)):
        if only_turn in (None, index + 1):
            _show_turn(explanation, index)
    if only_turn is not None:
        _show_tokens(explanation, only_turn - 1)
        return
    show_observation(explanation.trajectory.final_observation)
    show_ending(explanation.trajectory)
    _show_step(explanation)


def _show_head(explanation: Explanation) -> None:
    task, trajectory = explanation.trajectory.task, explanation.trajectory
    console.rule(escape(f"episode {explanation.id}: {task.family}, {task.id}"), align="left")
    settings = explanation.config.learner
    returns = []
    for member, other in enumerate(explanation.group.trajectories, start=1):
        mark = "*" if member == explanation.id.member else ""
        advantages = sorted({round(a, 3) for a in explanation.group_advantages[member - 1]})
        ends = [advantages[0], advantages[-1]] if len(advantages) > 1 else advantages
        shown = " to ".join(f"{a:+.2f}" for a in ends) or "none"
        returns.append(f"{member}{mark}: {other.episode_return:+.2f} (A {shown})")
    kept = "trains" if explanation.is_kept else "does not train"
    place = f"group {explanation.id.group} of {len(explanation.groups.played)}"
    say(f"{place}: {outcome(explanation.group)}, {kept}")
    say(f"returns and advantages ({settings.chosen_objective.advantage}): {', '.join(returns)}")
    why, terms = why_not_trained(explanation), other_terms(explanation)
    if why:
        say(f"trained by {' and '.join(terms)} only: {why}" if terms else f"not trained: {why}")
    sampled, every = sum(trajectory.action_mask), len(trajectory.token_ids)
    may_train = 0 if why and not terms else sampled
    say(f"{may_train} of {every} tokens may train; {every - sampled} are prompts, which are masked")
    if explanation.optimizer_step is not None:
        step = f"optimizer step {explanation.optimizer_step} of the update"
        say(f"objective {settings.objective}, {step}")
    if not explanation.has_records:
        say("ratios and clips are not known: the run kept none (train.keep_token_records: true)")
    elif not why and all(numbers is None for numbers in explanation.turn_numbers):
        say("it did not go through the learner, so it has no ratios")


def _show_turn(explanation: Explanation, index: int) -> None:
    turn = explanation.trajectory.turns[index]
    console.print()
    show_observation(turn.observation)
    command = turn.action.said
    console.print(f"{index + 1:>3} > {escape(command)}", style="bold", end="")
    show_outcome(turn.reward, admissible=turn.admissible)
    numbers = explanation.turn_numbers[index]
    tokens = len(turn.completion.token_ids)
    line = f"    A {explanation.advantages[index]:+.3f}, {tokens_of(tokens)}"
    if numbers is not None:
        line += f", {_summary(numbers)}"
    console.print(escape(line), style="cyan")
    for reason in turn_reasons(explanation, index):
        say(f"    - {reason}")


def _summary(numbers: Numbers) -> str:
    ratio = np.exp(numbers["log_ratio"].astype(np.float64))
    trained = int((numbers["weight"] != 0).sum())
    mismatch = np.abs(numbers["mismatch"]).mean()
    return (
        f"{trained} with a gradient, weight {_range(numbers['weight'], '+.3f')}, "
        f"ratio {_range(ratio, '.3f')}, "
        f"entropy {numbers['entropy'].mean():.2f}, mismatch {mismatch:.4f}"
    )


def _range(values: NDArray[Any], form: str) -> str:
    """The least and the greatest value; one, if they look alike."""
    least, most = format(values.min(), form), format(values.max(), form)
    return least if least == most else f"{least} to {most}"


def _show_tokens(explanation: Explanation, index: int) -> None:
    """Print a row for each token of a turn."""
    numbers = explanation.turn_numbers[index]
    if numbers is None:
        return
    completion = explanation.trajectory.turns[index].completion
    heads = ("token", "sampler log-prob", "learner log-prob", "ratio", "clipped", "weight", "share")
    table = Table(*heads, "entropy", "left out", "versions behind", box=None)
    for place, token_id in enumerate(completion.token_ids):
        sampled, value = completion.logprobs[place], {k: v[place] for k, v in numbers.items()}
        table.add_row(
            str(token_id),
            f"{sampled:.4f}",
            f"{sampled + float(value['mismatch']):.4f}",
            f"{np.exp(float(value['log_ratio'])):.4f}",
            CLIPPED[int(value["clipped"])],
            f"{float(value['weight']):+.4f}",
            f"{float(value['share']):.2e}",
            f"{float(value['entropy']):.3f}",
            "yes" if value["left_out"] else "",
            str(int(value["staleness"])),
        )
    console.print(table)


def _show_step(explanation: Explanation) -> None:
    """Print the metrics of the step's tokens, from the records and as the learner logged them."""
    if not explanation.step_metrics:
        return
    step = explanation.id.step
    say(f"all trained tokens of step {step}, from their records (as the learner logged):")
    for name in _COMPARED:
        logged = explanation.logged.get(name)
        shown = "not logged" if logged is None else f"{logged:.6f}"
        say(f"    {name:<20} {explanation.step_metrics[name]:.6f} ({shown})")
