"""Thoughts with a budget, and stop strings: what was sampled is trained, and nothing else."""

import asyncio
from typing import Any

import pytest

from agent_rl.learner.samples import samples_from_group
from rollouts import EpisodeSettings, FinishReason, PromptSettings, StopReason, Trajectory
from rollouts.episode import run_episode
from rollouts.renderer import make_renderer
from rollouts.rendering.histories import make_history
from tests.builders.chat_templates import DISTILL, HYBRID
from tests.builders.episodes import group
from tests.builders.models import CHATML, make_tokenizer
from tests.builders.number_env import NumberEnv
from tests.builders.scripted import ScriptedPolicy
from tests.rollouts.test_episode import TASK

TOKENIZER = make_tokenizer(chat_template=CHATML)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
FORCED = "\n</think>\n\n"
BUDGET = 48
"""A token is a letter, mostly."""


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def said(text: str) -> tuple[int, ...]:
    return (*ids_of(text), END)


def play(
    *actions: tuple[int, ...],
    template: str = CHATML,
    context_length: int = 4096,
    episode: Any = (),
    **prompt: Any,
) -> tuple[Trajectory, ScriptedPolicy]:
    settings = PromptSettings.model_validate({"format": "chat", "think": True, **prompt})
    renderer = make_renderer(make_tokenizer(chat_template=template), settings)
    policy = ScriptedPolicy(renderer, list(actions))
    coroutine = run_episode(
        NumberEnv(),
        TASK,
        policy,
        renderer,
        EpisodeSettings.model_validate(
            {"max_turns": 3, "max_thought_tokens": BUDGET, "max_action_tokens": 40, **dict(episode)}
        ),
        context_length=context_length,
        temperature=1.0,
        seed=11,
        history=make_history(settings),
    )
    return asyncio.run(coroutine), policy


LONG = ids_of("<think>it is odd, as I said before, and above five, so it is seven or nine")
SHORT = said("<think>odd</think><action>guess 7</action>")


@pytest.mark.parametrize(
    ("template", "prompt", "parts"),
    [
        (CHATML, {}, 1),
        (CHATML, {"history": "window", "window": 0}, 2),
        # These drop the thoughts of earlier turns, so each turn has a new prompt.
        (HYBRID, {}, 2),
        (DISTILL, {}, 2),
    ],
)
def test_a_cut_thought_is_trained_its_end_is_not_and_the_action_follows(
    template: str, prompt: dict[str, Any], parts: int
) -> None:
    thought, short = LONG, "<think>odd</think>"
    if template == DISTILL:  # the prompt begins the thought
        thought, short = LONG[len(ids_of("<think>")) :], "odd</think>"
    action, last = said("<action>guess 5</action>"), said(f"{short}<action>guess 7</action>")
    episode, policy = play(thought, action, last, template=template, **prompt)
    assert (episode.stop_reason, episode.success) == (StopReason.SUCCESS, True)
    assert [turn.kind for turn in episode.turns] == ["thought", "action", "action"]
    assert len(episode.parts) == parts
    # Each prompt of the policy is the beginning of a part, to the id.
    read = []
    for part in episode.parts:
        ids: tuple[int, ...] = ()
        for turn in part.turns:
            read.append(ids := ids + turn.prompt_token_ids)
            ids += turn.completion.token_ids
        assert part.token_ids == ids
    assert read == policy.prompts
    # The first part begins with the prompt, then 48 ids of thought, its end, and the action.
    first = episode.parts[0]
    prompt_ids = len(policy.prompts[0])
    spoken = (*thought[:BUDGET], *ids_of(FORCED), *action)
    assert first.token_ids[prompt_ids:][: len(spoken)] == spoken
    trained = [False] * prompt_ids + [True] * BUDGET + [False] * len(ids_of(FORCED))
    trained += [True] * len(action)
    assert first.action_mask[: len(trained)] == tuple(trained)
    logprobs = first.behavior_logprobs
    assert [x == -0.5 for x in logprobs] == list(first.action_mask)


def test_what_the_environment_sees_is_counted() -> None:
    episode, _ = play(LONG, said("<action>guess 5</action>"), SHORT)
    assert (len(episode.turns), len(episode.actions)) == (3, 2)
    assert (episode.cut_thoughts, episode.truncated_actions, episode.invalid_actions) == (1, 0, 0)
    thought, action, _ = episode.turns
    assert (thought.reward, thought.admissible, thought.action.command) == (0.0, True, None)
    assert thought.completion.finish_reason is FinishReason.LENGTH
    assert thought.observation == action.observation == "Guess my number."
    assert (
        action.action.text == f"{TOKENIZER.decode(LONG[:BUDGET])}{FORCED}<action>guess 5</action>"
    )
    # Three turns of the environment, and four of the policy.
    lost, policy = play(LONG, *[said("<action>think</action>")] * 3)
    assert (lost.stop_reason, len(lost.actions)) == (StopReason.MAX_TURNS, 3)
    assert len(policy.prompts) == 4


def test_the_learner_gets_two_runs_with_one_advantage() -> None:
    won, _ = play(LONG, said("<action>guess 5</action>"), SHORT)
    lost, _ = play(*[said("<action>think</action>")] * 3)
    first, second = samples_from_group(group(won, lost))
    assert (first.turns, second.turns) == (3, 3)
    assert len(set(first.advantages)) == 1
    assert first.token_ids == won.token_ids
    assert first.action_mask == won.action_mask


def test_the_next_prompt_shows_the_cut_thought_as_the_policy_had_it() -> None:
    episode, policy = play(LONG, said("<action>guess 5</action>"), SHORT)
    assert TOKENIZER.decode(policy.prompts[2]).endswith(
        f"{TOKENIZER.decode(LONG[:BUDGET])}{FORCED}<action>guess 5</action><|im_end|>\n"
        "<|im_start|>user\nHigher.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert episode.success


def test_a_context_without_room_for_thought_and_action_ends_the_episode() -> None:
    whole, policy = play(LONG, said("<action>guess 5</action>"), SHORT)
    fits = len(policy.prompts[2]) + BUDGET + len(ids_of(FORCED)) + 40
    again, _ = play(LONG, said("<action>guess 5</action>"), SHORT, context_length=fits)
    assert again.turns == whole.turns
    full, _ = play(LONG, said("<action>guess 5</action>"), context_length=fits - 1)
    assert (full.stop_reason, len(full.actions)) == (StopReason.CONTEXT_FULL, 1)
    none, _ = play(context_length=40)
    assert none.error.startswith(
        f"task 'number-7': the first prompt has {len(policy.prompts[0])} tokens, a thought up to "
        f"{BUDGET} (episode.max_thought_tokens) and an action up to 40 (episode.max_action_tokens)"
        ", but the context holds 40; "
    )


def test_a_stop_string_ends_an_action() -> None:
    wordy = ids_of("<action>guess 5</action>\nHigher, I suppose")
    episode, policy = play(wordy, wordy, stop=["</action>"], episode={"max_thought_tokens": 0})
    kept = ids_of("<action>guess 5</action>")
    first = episode.turns[0]
    assert (first.completion.token_ids, first.action.command) == (kept, "guess 5")
    assert first.completion.finish_reason is FinishReason.STOP_TEXT
    # The end token is written for the policy, as nothing else ends the message.
    assert episode.turns[1].prompt_token_ids[0] == END
    assert policy.prompts[1][len(policy.prompts[0]) :][: len(kept) + 1] == (*kept, END)
    assert (episode.truncated_actions, episode.invalid_actions) == (0, 0)


def test_an_action_that_its_limit_cuts_is_truncated() -> None:
    long = ids_of("<action>guess 7</action> is what I say now, as there is no other number")
    no_budget = {"max_thought_tokens": 0}
    episode, _ = play(long, long, long, episode=no_budget)
    assert (episode.truncated_actions, episode.invalid_actions) == (3, 3)
    episode, _ = play(long, text_after_action="ignore", episode=no_budget)
    assert (episode.truncated_actions, episode.success) == (1, True)
