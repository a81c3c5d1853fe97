from pathlib import Path

import pytest

from rollouts import Completion, FinishReason, PromptSettings
from rollouts.renderer import byte_renderer, load_renderer, make_renderer
from tests.builders.models import CHATML, make_tokenizer

# Shows <think> only in the assistant message after the last user message, as some reasoning models'
# templates do.
FORGETFUL = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</think>')[-1] if m['role'] == 'assistant' else m['content'] }}"
    "<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NUMBERED = CHATML.replace(
    "{{ m['role'] }}", "{{ m['role'] ~ (loop.index if m['role'] == 'user' else '') }}"
)
ENDLESS = CHATML.replace("<|im_end|>", "")


def completion(ids: tuple[int, ...], reason: FinishReason = FinishReason.STOP) -> Completion:
    return Completion(
        token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason=reason, policy_version=0
    )


def test_plain_prompt_is_the_observation_and_a_mark() -> None:
    tokenizer = make_tokenizer()
    renderer = make_renderer(tokenizer, PromptSettings())
    first = renderer.first("You see a desk 1.", ["look", "help"])
    assert first[0] == tokenizer.bos_token_id
    assert tokenizer.decode(first[1:]) == "You see a desk 1.\n> "
    assert tokenizer.decode(renderer.following("Hm.", None, FinishReason.STOP)) == "\nHm.\n> "


def test_plain_prompt_with_system_and_commands() -> None:
    tokenizer = make_tokenizer(bos=False)
    renderer = make_renderer(
        tokenizer, PromptSettings(system="Win.", show_admissible_commands=True)
    )
    assert (
        tokenizer.decode(renderer.first("A room.", ["look", "help"]))
        == "Win.\n\nA room.\nCommands: look, help\n> "
    )
    following = renderer.following("A room.", ["look"], FinishReason.STOP)
    assert tokenizer.decode(following) == "\nA room.\nCommands: look\n> "


def test_a_completion_without_end_gets_its_end_in_the_next_prompt() -> None:
    renderer = make_renderer(make_tokenizer(), PromptSettings())
    stopped = renderer.following("Hm.", None, FinishReason.STOP)
    assert renderer.following("Hm.", None, FinishReason.LENGTH) == (
        *renderer.end_token_ids,
        *stopped,
    )


def test_plain_actions_go_to_ids_and_back() -> None:
    renderer = make_renderer(make_tokenizer(), PromptSettings())
    ids = renderer.action_ids("guess 7")
    assert ids[-1] == renderer.end_token_ids[0] == 1
    assert renderer.parse(completion(ids)).command == "guess 7"
    cut = renderer.parse(completion(ids[:-1], FinishReason.LENGTH))
    assert (cut.text, cut.command) == ("guess 7", None)
    assert renderer.parse(completion(ids[-1:])).command is None


def test_without_a_model_bytes_are_tokens() -> None:
    renderer = byte_renderer()
    assert renderer.first("Hé", ["look"]) == tuple("Hé\n> ".encode())
    ids = renderer.action_ids("öffne")
    assert ids == (*"öffne".encode(), 256)
    assert renderer.parse(completion(ids)).command == "öffne"
    assert renderer.parse(completion((*b"caf\xc3", 256))).text == "caf\ufffd"
    assert renderer.following("\ud800", None, FinishReason.LENGTH) == (256, *b"\n?\n> ")


def test_chat_turns_append_to_what_the_template_renders() -> None:
    tokenizer = make_tokenizer(chat_template=CHATML)
    renderer = make_renderer(tokenizer, PromptSettings(format="chat", system="Win.", think=True))
    said = renderer.action_ids("look")
    ids = (
        renderer.first("A room.", None)
        + said
        + renderer.following("A desk.", None, FinishReason.STOP)
    )
    messages = [
        ("system", "Win."),
        ("user", "A room."),
        ("assistant", "<action>look</action>"),
        ("user", "A desk."),
    ]
    whole = tokenizer.apply_chat_template(
        [{"role": role, "content": content} for role, content in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert tokenizer.decode(ids) == whole
    assert said[-1] == renderer.end_token_ids[0] == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id in renderer.end_token_ids
    assert renderer.parse(completion(said)).command == "look"


def test_chat_shows_commands_and_closes_a_cut_completion() -> None:
    tokenizer = make_tokenizer(chat_template=CHATML)
    renderer = make_renderer(
        tokenizer, PromptSettings(format="chat", show_admissible_commands=True)
    )
    text = tokenizer.decode(renderer.following("A desk.", ["look", "help"], FinishReason.LENGTH))
    assert text.startswith("<|im_end|>\n<|im_start|>user\nA desk.\n")
    assert "\nlook\nhelp<|im_end|>\n<|im_start|>assistant\n" in text


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (FORGETFUL, "rewrites the past"),
        (NUMBERED, "differently later on"),
        (ENDLESS, "one special token"),
        (None, "has none"),
    ],
)
def test_templates_that_cannot_append_are_refused(template: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{reason}.*prompt.format: plain"):
        make_renderer(make_tokenizer(chat_template=template), PromptSettings(format="chat"))


def test_examples_come_between_the_system_and_the_episode() -> None:
    tokenizer = make_tokenizer(chat_template=CHATML)
    examples = ({"observation": "A door.", "action": "open door"},)
    settings = PromptSettings.model_validate(
        {"format": "chat", "system": "Win.", "examples": examples}
    )
    shown = tokenizer.decode(make_renderer(tokenizer, settings).first("A room.", None))
    said = [
        ("system", "Win."),
        ("user", "A door."),
        ("assistant", "open door"),
        ("user", "A room."),
    ]
    whole = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
    assert shown == f"{whole}<|im_start|>assistant\n"
    with pytest.raises(ValueError, match=r"prompt\.examples"):
        make_renderer(make_tokenizer(), settings.model_copy(update={"format": "plain"}))


def test_think_needs_chat() -> None:
    with pytest.raises(ValueError, match=r"prompt\.think"):
        make_renderer(make_tokenizer(), PromptSettings(think=True))


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{tmp_path}/none"):
        load_renderer(tmp_path / "none", PromptSettings())
    with pytest.raises(ValueError, match=f"{tmp_path} holds no tokenizer"):
        load_renderer(tmp_path, PromptSettings())
