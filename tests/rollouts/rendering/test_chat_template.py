"""A chat template with its options; whatever goes wrong is one sentence."""

from pathlib import Path
from typing import Any

import pytest

from rollouts import PromptSettings
from rollouts.rendering.chat_template import (
    ChatTemplate,
    TemplateRefused,
    read_template,
    use_template,
)
from tests.builders.chat_templates import DATED, HYBRID
from tests.builders.models import CHATML, make_tokenizer

USER = {"role": "user", "content": "Hm."}


def template(text: str, **prompt: Any) -> ChatTemplate:
    settings = PromptSettings.model_validate({"format": "chat", **prompt})
    return ChatTemplate(make_tokenizer(chat_template=text), settings)


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
        template(wrong + CHATML).render([USER])


def test_options_reach_the_template() -> None:
    assert template(HYBRID).render([USER]).endswith("assistant\n")
    no_thoughts = template(HYBRID, template_options={"enable_thinking": False})
    assert no_thoughts.render([USER]).endswith("assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("enable_thinkin", r"never reads it; did you mean 'enable_thinking'\?"),
        ("zzz", "never reads it; remove it"),
        ("messages", "the renderer itself gives it"),
        ("add_generation_prompt", "the renderer itself gives it"),
    ],
)
def test_an_option_that_is_none_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^prompt\.template_options\.{name}: .*{message}"):
        template(HYBRID, template_options={name: True})


def test_tools_are_an_option() -> None:
    text = "{% if tools %}{{ tools | length }} tools{% endif %}" + CHATML
    assert template(text, template_options={"tools": [{}]}).render([USER]).startswith("1 tools")


def test_the_clock_of_a_template_can_be_stopped() -> None:
    assert template(DATED).writes_date([USER])
    for options in ({"date_string": "26 Jul 2024"}, {"strftime_now": "26 Jul 2024"}):
        pinned = template(DATED, template_options=options)
        assert not pinned.writes_date([USER])
        assert "Today: 26 Jul 2024<" in pinned.render([USER])


def test_a_file_takes_the_place_of_the_tokenizers_template(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("Own. " + CHATML)
    assert template(CHATML, template=str(file)).render([USER]).startswith("Own. ")
    with pytest.raises(ValueError, match=r"template .*own\.jinja never reads it"):
        template(CHATML, template=str(file), template_options={"zzz": 1})
    tokenizer = make_tokenizer()
    use_template(tokenizer, PromptSettings())
    assert tokenizer.chat_template is None
    use_template(tokenizer, PromptSettings(template=str(file)))
    assert tokenizer.chat_template == "Own. " + CHATML


def test_a_file_that_is_no_template_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    wrong = {"none": "no such file", "": "is a folder", "empty": "is empty", "bytes": "no text"}
    for name, problem in wrong.items():
        with pytest.raises(ValueError, match=rf"^prompt\.template: '{tmp_path}.*{problem}"):
            read_template(str(tmp_path / name))
    assert read_template("") == ""
