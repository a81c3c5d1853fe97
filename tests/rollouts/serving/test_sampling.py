"""What the policy is asked for in each request, and what the learner trains of it."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from rollouts import Completion, EpisodeSettings, FinishReason, PromptSettings
from rollouts.renderer import make_renderer
from rollouts.rendering.conversation import Prompt
from rollouts.serving.sampling import Answer, Sampler, most_answer_tokens
from tests.builders.chat_templates import DISTILL
from tests.builders.models import CHATML, make_tokenizer
from tests.builders.scripted import ScriptedPolicy

PROMPT = Prompt(token_ids=(70, 71))
TOKENIZER = make_tokenizer(chat_template=CHATML)
END = TOKENIZER.convert_tokens_to_ids("<|im_end|>")


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False))


def asked(
    *actions: tuple[int, ...], template: str = CHATML, limits: Any = (0, 16), **prompt: Any
) -> tuple[Answer, ScriptedPolicy, Sampler]:
    """One answer of a policy that says `actions`, with limits of thought and action."""
    settings = PromptSettings.model_validate({"format": "chat", "think": True, **prompt})
    renderer = make_renderer(make_tokenizer(chat_template=template), settings)
    policy = ScriptedPolicy(renderer, list(actions))

    async def ask(request: Awaitable[Completion]) -> Completion:
        return await request

    sampler = Sampler(
        policy=policy,
        renderer=renderer,
        settings=EpisodeSettings(max_thought_tokens=limits[0], max_action_tokens=limits[1]),
        temperature=1.0,
        seed=5,
        ask=ask,
    )
    answer = asyncio.run(sampler.answer(PROMPT))
    assert not policy.actions, "the policy was asked less often"
    assert len(set(policy.seeds)) == len(policy.seeds)
    return answer, policy, sampler


def test_without_a_budget_there_is_one_request() -> None:
    ids = (*ids_of("<think>odd</think><action>guess 7</action>"), END)
    answer, policy, sampler = asked(ids, limits=(0, 64))
    assert (policy.prompts, policy.limits) == ([PROMPT.token_ids], [64])
    assert (answer.action.token_ids, answer.thought) == (ids, None)
    assert tuple(sampler.ids) == (*PROMPT.token_ids, *ids)


def test_a_thought_that_takes_too_long_is_ended() -> None:
    thought, action = ids_of("<think>it is odd, as"), (*ids_of("<action>guess 7</action>"), END)
    answer, policy, sampler = asked(thought, action, limits=(9, 32))
    end = ids_of("\n</think>\n\n")
    cut = (*PROMPT.token_ids, *thought[:9], *end)
    assert (policy.prompts, policy.limits) == ([PROMPT.token_ids, cut], [9, 32])
    assert answer.thought is not None
    assert answer.thought.finish_reason is FinishReason.LENGTH
    assert (answer.thought.token_ids, answer.action.token_ids) == (thought[:9], action)
    assert answer.ids_before_action == (*thought[:9], *end)
    assert tuple(sampler.ids) == (*cut, *action)


def test_a_thought_that_the_prompt_begins_has_the_budget_too() -> None:
    thought, action = ids_of("it is odd, as"), (*ids_of("<action>guess 7</action>"), END)
    answer, policy, _ = asked(thought, action, template=DISTILL, limits=(5, 32))
    assert answer.thought is not None
    assert answer.thought.token_ids == thought[:5]
    assert policy.limits == [5, 32]


def test_the_end_may_begin_the_action() -> None:
    thought, action = ids_of("<think>it is odd, as"), (*ids_of("guess 7</action>"), END)
    end = "\n</think>\n<action>"
    answer, policy, _ = asked(thought, action, limits=(9, 32), thought_end=end)
    assert policy.prompts[1][-len(ids_of(end)) :] == ids_of(end)
    read = policy.renderer.parse(answer.action, before=answer.ids_before_action)
    assert read.command == "guess 7"


def test_a_short_thought_leaves_the_action_its_own_tokens() -> None:
    thought, action = ids_of("<think>odd</think>"), (*ids_of("<action>guess 7</action>"), END)
    ids = (*thought, *action)
    budget = len(thought) + 4
    answer, policy, sampler = asked(ids, ids[budget:], limits=(budget, len(action)))
    # The first four ids of the action are of its own tokens.
    assert policy.limits == [budget, len(action) - 4]
    assert policy.prompts[1] == (*PROMPT.token_ids, *ids[:budget])
    assert (answer.action.token_ids, answer.thought) == (ids, None)
    assert answer.action.finish_reason is FinishReason.STOP
    assert tuple(sampler.ids) == (*PROMPT.token_ids, *ids)


def test_an_action_has_no_more_than_its_own_tokens() -> None:
    thought = ids_of("<think>odd</think>")
    ids = (*thought, *ids_of("<action>guess 7</action>"), END)
    answer, policy, sampler = asked(ids, limits=(len(ids), 5))
    assert policy.limits == [len(ids)]
    assert answer.action.token_ids == ids[: len(thought) + 5]
    assert answer.action.finish_reason is FinishReason.LENGTH
    assert tuple(sampler.ids) == (*PROMPT.token_ids, *answer.action.token_ids)


def test_an_action_without_a_thought_has_its_own_tokens() -> None:
    ids = (*ids_of("<action>guess 7</action>"), END)
    answer, policy, _ = asked(ids, ids[4:], limits=(4, len(ids)))
    assert policy.limits == [4, len(ids) - 4]
    assert answer.action.token_ids == ids


def test_an_answer_that_ends_within_its_thought_stays() -> None:
    ids = (*ids_of("<think>odd"), END)
    answer, policy, _ = asked(ids, limits=(32, 4))
    assert (answer.action.token_ids, answer.thought, policy.limits) == (ids, None, [32])


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_stop_string_may_lie_in_two_requests(cut: int) -> None:
    thought, action = ids_of("<think>odd</think>"), ids_of("<action>look</action>")
    ids = (*thought, *action, *ids_of("\nYou see"))
    # The budget ends within </action>, which is the last ids of `action`.
    budget = len(thought) + len(action) - cut
    answer, policy, sampler = asked(
        ids, ids[budget:], limits=(budget, 64), stop=["</action>"], text_after_action="refuse"
    )
    assert answer.action.token_ids == (*thought, *action)
    assert answer.action.finish_reason is FinishReason.STOP_TEXT
    assert policy.renderer.parse(answer.action).command == "look"
    assert tuple(sampler.ids) == (*PROMPT.token_ids, *thought, *action)


def test_the_room_of_an_answer() -> None:
    renderer = make_renderer(TOKENIZER, PromptSettings(format="chat", think=True))
    assert most_answer_tokens(EpisodeSettings(max_action_tokens=9), renderer) == 9
    limits = EpisodeSettings(max_action_tokens=9, max_thought_tokens=20)
    assert most_answer_tokens(limits, renderer) == 20 + len(ids_of("\n</think>\n\n")) + 9
