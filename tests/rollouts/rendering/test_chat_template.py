"""A chat template is judged before it is used, and whatever goes wrong is one sentence."""

import time
from typing import Any

import pytest

from rollouts.rendering import chat_template
from rollouts.rendering.chat_template import ChatTemplate, TemplateRefused
from tests.builders.models import CHATML, make_tokenizer

SYSTEM = {"role": "system", "content": "Win."}


def check(template: str, *, opening: list[dict[str, str]] | None = None) -> str:
    tokenizer: Any = make_tokenizer(chat_template=template)
    return ChatTemplate(tokenizer).check(opening or [], "look")


def test_a_template_that_appends_ends_its_messages_with_one_token() -> None:
    assert check(CHATML, opening=[SYSTEM]) == "<|im_end|>"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("{{ raise_exception('pass style') }}", "pass style"),
        ("{{ messages[0].nothing.there }}", "no attribute 'nothing'"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for", "unexpected"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ range(10 ** 9) }}", "OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'x' * 2000000 }}", r"2,000,0\d\d characters"),
    ],
)
def test_whatever_a_template_raises_is_one_sentence(wrong: str, sentence: str) -> None:
    with pytest.raises(TemplateRefused, match=rf"^prompt\.format: .*{sentence}.*prompt\.format: "):
        check(wrong + CHATML)


def test_a_template_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "_MOST_SECONDS", 0.5)
    loops = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    began = time.monotonic()
    with pytest.raises(TemplateRefused, match=r"did not come to an end in 0\.5 s"):
        check(loops + CHATML)
    assert time.monotonic() - began < 5


def test_a_template_that_leaves_out_a_message_is_refused() -> None:
    drops = "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}" + CHATML
    assert check(drops) == "<|im_end|>"
    with pytest.raises(TemplateRefused, match="leaves out the system message"):
        check(drops, opening=[SYSTEM])
    with pytest.raises(TemplateRefused, match="leaves out the user message"):
        check("{% for m in messages %}{% endfor %}<|im_end|>")
