"""A chat template is judged on what the run will send it."""

import time
from typing import Any

import pytest

from rollouts import PromptSettings
from rollouts.rendering import judgement
from rollouts.rendering.chat_template import ChatTemplate, TemplateRefused
from rollouts.rendering.judgement import Judgement, judge
from tests.builders.chat_templates import (
    CHANNELS,
    DATED,
    DISTILL,
    HYBRID,
    MOVES_SYSTEM,
    PRESERVING,
    SPACED,
    THINKING,
)
from tests.builders.models import CHATML, make_tokenizer

SYSTEM = {"role": "system", "content": "Win."}
NO_THOUGHTS = {"enable_thinking": False}
EMPTY = "<think>\n\n</think>\n\n"


def judged(text: str, *, system: bool = False, think: bool = False, **options: Any) -> Judgement:
    settings = PromptSettings(format="chat", template_options=options)
    template = ChatTemplate(make_tokenizer(chat_template=text), settings)
    return judge(template, [SYSTEM] if system else [], think=think)


def test_a_template_that_appends_ends_its_messages_with_one_token() -> None:
    found = judged(CHATML, system=True)
    assert (found.how, found.end, found.kept, found.opened, found.lead) == (
        *("append", "<|im_end|>"),
        *("", "", ""),
    )


def test_thoughts_that_the_run_does_not_have_do_not_count() -> None:
    assert judged(HYBRID).how == "append"
    # The empty thought is part of each prompt, and stays where it is.
    without = judged(HYBRID, **NO_THOUGHTS)
    assert (without.how, without.kept) == ("append", EMPTY)
    assert judged(THINKING, **NO_THOUGHTS).kept == EMPTY


@pytest.mark.parametrize("text", [HYBRID, THINKING, DISTILL])
def test_thoughts_that_the_template_drops_are_told(text: str) -> None:
    found = judged(text, think=True)
    assert found.how == "whole"
    assert "drops the thoughts of earlier turns" in found.why_not_append
    assert found.end == "<|im_end|>"
    assert found.opened == ("" if text == HYBRID else "<think>\n")


def test_a_thought_that_the_prompt_begins_is_the_policys_to_end() -> None:
    found = judged(PRESERVING, think=True, preserve_thinking=True)
    assert (found.how, found.opened) == ("append", "<think>\n")
    assert found.lead == "\n</think>\n\n"
    assert judged(PRESERVING, think=True, preserve_thinking=False).how == "whole"


@pytest.mark.parametrize("text", [THINKING, DISTILL])
def test_a_run_without_thoughts_takes_no_prompt_that_begins_one(text: str) -> None:
    way_out = r"prompt\.think: true" + (
        r", or prompt\.template_options: \{enable_thinking: false\}" if text == THINKING else ""
    )
    with pytest.raises(TemplateRefused, match=rf"^prompt\.think: .*begins each.*{way_out}"):
        judged(text)


def test_a_space_before_an_answer_is_part_of_it() -> None:
    found = judged(SPACED)
    assert (found.how, found.lead, found.end) == ("append", " ", "</s>")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MOVES_SYSTEM, "rewrites the past: with one more message, 'Win."),
        (CHANNELS, "shows an earlier answer with 'final: ' before the command"),
        (
            CHATML.replace("m['role']", "m.role ~ (loop.index if m.role == 'user' else '')"),
            "shows the same message differently later on",
        ),
    ],
)
def test_what_else_speaks_against_appending_is_told(text: str, why: str) -> None:
    found = judged(text, system=True)
    assert found.how == "whole"
    assert why in found.why_not_append


def test_instructions_that_move_count_only_if_there_are_some() -> None:
    assert judged(MOVES_SYSTEM).how == "append"


def test_the_date_of_the_day_has_to_be_pinned() -> None:
    with pytest.raises(TemplateRefused, match=r"prompt\.template_options: .*\{date_string: 26 Jul"):
        judged(DATED)
    clock = DATED.replace("date_string", "today")
    with pytest.raises(TemplateRefused, match=r"pin it, as with \{strftime_now: 26 Jul"):
        judged(clock)
    assert judged(DATED, date_string="26 Jul 2024").how == "append"
    # A template that asks for the date, and then does not write it, is no harm.
    assert judged("{% set today = strftime_now('%d') %}" + CHATML).how == "append"


def test_the_tail_of_a_conversation_has_no_end_token() -> None:
    found = judged(CHATML)
    said = f"go to desk 1 {found.command_text}<|im_end|>\nlook<|im_end|>"
    assert found.tail_of(said) == "\nlook<|im_end|>"
    with pytest.raises(TemplateRefused, match="'look' after an answer, and mostly"):
        found.tail_of(f"{found.command_text}look")


def test_a_template_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgement, "_MOST_SECONDS", 0.5)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(TemplateRefused, match=r"did not come to an end in 0\.5 s"):
        judged(loops + CHATML)
    assert time.monotonic() - began < 5


def test_a_template_that_leaves_out_a_message_is_refused() -> None:
    drops = "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}" + CHATML
    assert judged(drops).end == "<|im_end|>"
    with pytest.raises(TemplateRefused, match="leaves out the system message"):
        judged(drops, system=True)
    with pytest.raises(TemplateRefused, match="leaves out the user message"):
        judged("{% for m in messages %}{% endfor %}<|im_end|>")
    deaf = "{% set messages = messages | selectattr('role', 'ne', 'assistant') | list %}" + CHATML
    with pytest.raises(TemplateRefused, match="leaves out the assistant message"):
        judged(deaf)


@pytest.mark.parametrize("text", [CHATML, HYBRID, PRESERVING])
def test_a_run_that_leaves_thoughts_out_has_new_prompts_with_any_template(text: str) -> None:
    template = ChatTemplate(make_tokenizer(chat_template=text), PromptSettings(format="chat"))
    kept, found = (judge(template, [], think=True, history_thoughts=t) for t in (True, False))
    assert (found.how, found.kept) == ("whole", "")
    assert found.why_not_append.startswith("prompt.history_thoughts: false leaves out")
    assert (found.end, found.opened, found.lead) == (kept.end, kept.opened, kept.lead)


def test_a_template_that_needs_thoughts_is_refused_if_they_are_left_out() -> None:
    needs = "{% if m.role == 'user' or '</think>' in m.content %}"
    text = CHATML.replace("{{ m['content'] }}", f"{needs}{{{{ m['content'] }}}}{{% endif %}}")
    template = ChatTemplate(make_tokenizer(chat_template=text), PromptSettings(format="chat"))
    assert judge(template, [], think=True).how == "append"
    with pytest.raises(TemplateRefused, match="leaves out the assistant message"):
        judge(template, [], think=True, history_thoughts=False)
