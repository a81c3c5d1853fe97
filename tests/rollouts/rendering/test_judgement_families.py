"""The templates of known models, where an installed package ships them."""

from typing import Any

import pytest

from rollouts import FinishReason, PromptSettings
from rollouts.renderer import ChatRenderer, first_messages, make_renderer
from rollouts.rendering.chat_template import ChatTemplate
from tests.builders.chat_templates import FAMILIES, Family

FIRST, SECOND = "You see a desk 1.", "On the desk 1, you see a mug 3."


@pytest.fixture(params=FAMILIES, ids=lambda family: f"{family.name}: {family.settings}")
def family(request: pytest.FixtureRequest) -> Family:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def tokenizer(family: Family) -> Any:
    text = family.read()
    if text is None:
        pytest.skip(f"no installed package ships {family.file}")
    return family.tokenizer(text)


def test_how_a_template_is_used(family: Family, tokenizer: Any) -> None:
    settings = PromptSettings.model_validate({"format": "chat", **family.prompt})
    if family.how == "refused":
        with pytest.raises(ValueError, match=family.why):
            make_renderer(tokenizer, settings)
        return
    renderer = make_renderer(tokenizer, settings)
    assert isinstance(renderer, ChatRenderer)
    judgement = renderer.judgement
    assert (judgement.how, judgement.end) == (family.how, family.kind.end)
    assert renderer.appends is (family.how == "append")
    assert family.why in judgement.why_not_append


def test_the_second_prompt_is_the_templates_own(family: Family, tokenizer: Any) -> None:
    if family.how != "append":
        return
    settings = PromptSettings.model_validate({"format": "chat", **family.prompt})
    renderer = make_renderer(tokenizer, settings)
    assert isinstance(renderer, ChatRenderer)
    first = tokenizer.decode(renderer.first(FIRST, None))
    following = tokenizer.decode(renderer.following(SECOND, None, FinishReason.LENGTH))
    thought, command = "It is near.", "<action>look</action>" if settings.think else "look"
    said = f"<think>\n{thought}\n</think>\n\n{command}" if settings.think else command
    conversation = [
        *first_messages(settings, FIRST, None),
        {"role": "assistant", "content": said},
        {"role": "user", "content": SECOND},
    ]
    whole = ChatTemplate(tokenizer, settings).render(conversation)
    kept = renderer.judgement.kept
    past = first.removesuffix(kept)
    assert whole.startswith(past)
    assert whole.endswith(command + following)
    between = whole.removeprefix(past).removesuffix(command + following)
    if settings.think:
        # The policy's own words, which nobody renders again.
        assert between.strip() in (f"{thought}\n</think>", f"<think>\n{thought}\n</think>")
    else:
        expert = tokenizer.decode(renderer.action_ids("look"))
        assert expert == f"{between}look{renderer.judgement.end}"
        assert (first + expert)[len(past) :] == f"{kept}{between}look{renderer.judgement.end}"
