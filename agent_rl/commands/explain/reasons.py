"""Why a token was not trained, or trained less: sentences from what is known of an episode."""

import math
from collections.abc import Iterator

import numpy as np

from agent_rl.commands.explain.explanation import Explanation
from agent_rl.config.learner import LearnerSettings
from agent_rl.objective.advantages import all_equal
from agent_rl.objective.policy_loss import log_bounds
from agent_rl.runs.token_records import CLIPPED, Numbers
from agent_rl.training.groups import outcome
from rollouts import FinishReason, Trajectory, Turn

_OUTCOMES = {"all_succeed": "all its episodes succeed", "all_fail": "all its episodes fail"}


def why_not_trained(explanation: Explanation) -> str:
    """Why the objective moves nothing of the episode; empty if it does."""
    trajectory = explanation.trajectory
    if not trajectory.trains:
        if not trajectory.turns:
            return "it has no turn"
        return (
            f"it ended with {trajectory.stop_reason.value}, which says nothing about the policy; "
            "such an episode is left out of the comparison, too"
        )
    if not explanation.is_kept:
        ended = outcome(explanation.group)
        why = _OUTCOMES.get(ended, ended)
        return f"its group was dropped: {why} (train.drop_groups: {ended})"
    if any(explanation.advantages):
        return ""
    return f"its advantage is 0: {_why_no_advantage(explanation)}"


def other_terms(explanation: Explanation) -> list[str]:
    """The settings whose terms of the loss train the episode, whatever its advantage is."""
    if not explanation.is_kept or not explanation.trajectory.trains:
        return []
    settings = explanation.config.learner
    names = ("beta", "entropy_bonus")
    return [f"learner.{name}" for name in names if getattr(settings, name)]


def _why_no_advantage(explanation: Explanation) -> str:
    used = [t for t in explanation.group.trajectories if t.trains]
    if len(used) < 2:
        return "no other episode of its group can be compared with it"
    if all_equal([t.episode_return for t in used]):
        return f"all {len(used)} episodes of its group have the same return"
    return "its score is that of what it is compared with"


def turn_reasons(explanation: Explanation, index: int) -> Iterator[str]:
    """The sentences on one turn, by its index from 0: what was not trained in it, and why."""
    turn, settings = explanation.trajectory.turns[index], explanation.config.learner
    if turn.new_prompt:
        yield "a whole new prompt begins here (prompt.history), and with it a new part"
    if turn.prompt_token_ids:
        count = tokens_of(len(turn.prompt_token_ids))
        yield f"{count} of prompt, masked: {_author(explanation, index)}"
    yield from _about_form(explanation, index)
    if explanation.advantages[index] == 0.0 and not why_not_trained(explanation):
        yield "its advantage is 0, so it has no gradient"
    numbers = explanation.turn_numbers[index]
    if numbers is not None:
        yield from _about_numbers(numbers, settings)


def _author(explanation: Explanation, index: int) -> str:
    """Who wrote a turn's prompt, for the policy to read."""
    before = explanation.trajectory.turns[index - 1] if index else None
    if before is None or explanation.trajectory.turns[index].new_prompt:
        return "the policy did not write it"
    if before.kind == "thought":
        return "the end of the thought, which was written for the policy (prompt.thought_end)"
    if before.completion.finish_reason is not FinishReason.STOP:
        return "the policy did not write it; it begins with the end that its answer lacked"
    return "the policy did not write it"


def _about_form(explanation: Explanation, index: int) -> Iterator[str]:
    """On how the answer ended, and what an invalid action cost."""
    turn = explanation.trajectory.turns[index]
    if turn.kind == "thought":
        yield "a thought that was cut off (episode.max_thought_tokens), with its action's advantage"
    if turn.kind == "summary":
        yield "a summary of prompt.history, which the environment does not see"
    if turn.completion.finish_reason is FinishReason.LENGTH and turn.kind != "thought":
        yield "the token limit cut it off, so it has no end token to train"
    seen = explanation.config.episode.seen_observation_penalty
    if seen and _shows_nothing_new(explanation.trajectory, turn):
        yield f"nothing new: its reward is {seen:g} less (episode.seen_observation_penalty)"
    if turn.admissible:
        return
    penalty = explanation.config.episode.invalid_action_penalty
    if penalty:
        yield f"invalid: its reward is {penalty:g} less (episode.invalid_action_penalty)"
    repeated = explanation.config.episode.repeated_action_penalty
    before = [t for t in explanation.trajectory.turns[:index] if t.kind == "action"]
    if repeated and before and before[-1].has_refused(turn.action):
        yield f"said again: its reward is {repeated:g} less (episode.repeated_action_penalty)"
    of_turn = explanation.config.learner.invalid_turn_penalty
    if of_turn:
        yield f"invalid: this turn's score is {of_turn:g} less (learner.invalid_turn_penalty)"
    if not penalty and not of_turn:
        yield "invalid: the environment did not offer it; no penalty is set"


def _shows_nothing_new(episode: Trajectory, turn: Turn) -> bool:
    """Whether an action was answered by an earlier observation; a thought is no action."""
    texts = [action.observation for action in episode.actions] + [episode.final_observation]
    for place, action in enumerate(episode.actions):
        if action is turn:
            return texts[place + 1] in texts[: place + 1]
    return False


def _about_numbers(numbers: Numbers, settings: LearnerSettings) -> Iterator[str]:
    low, high = log_bounds(settings.chosen_objective)
    bounds = {
        "low": f"ratio below {math.exp(low):.3g} at A < 0",
        "high": f"ratio above {math.exp(high):.3g} at A > 0",
        "dual": f"ratio above {settings.chosen_objective.clip_c:.3g} at A < 0",
    }
    for number, bound in enumerate(CLIPPED):
        count = int((numbers["clipped"] == number).sum()) if bound else 0
        if count:
            yield f"{tokens_of(count)} clipped, {bound}: {bounds[bound]}, so no gradient"
    left_out = int(numbers["left_out"].sum())
    if left_out:
        yield f"{tokens_of(left_out)} left out of the loss by {_mask(numbers, settings)}"
    capped = int(numbers["capped"].sum())
    if capped:
        yield f"{tokens_of(capped)} with a weight cut by learner.importance_cap"
    if (numbers["staleness"] > 0).any():
        oldest = int(numbers["staleness"].max())
        yield f"sampled by weights up to {oldest} versions older than those that trained it"


def _mask(numbers: Numbers, settings: LearnerSettings) -> str:
    """The setting that left tokens out."""
    of_sampler = settings.chosen_importance.mask
    if not of_sampler:
        return "learner.off_policy_mask"
    if not settings.off_policy_mask:
        return "learner.importance_mask"
    # With a level of tokens, the mismatch of the token decides; else that of its episode.
    beyond = np.abs(numbers["mismatch"]) > math.log(of_sampler)
    if settings.chosen_importance.level == "token":
        return "learner.importance_mask" if beyond.any() else "learner.off_policy_mask"
    return "learner.importance_mask or learner.off_policy_mask"


def tokens_of(count: int) -> str:
    """Write a number of tokens."""
    return "1 token" if count == 1 else f"{count} tokens"
