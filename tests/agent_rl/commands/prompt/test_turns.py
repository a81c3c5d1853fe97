"""`agent-rl prompt` shows what a policy will read."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.prompt.turns import COMMAND, FIRST, SECOND, two_turns
from rollouts import PromptSettings
from tests.builders.chat_templates import DISTILL, HYBRID, PRESERVING
from tests.builders.command_line import CommandLine
from tests.builders.models import make_tokenizer, save_policy

ASKED = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


def turns(text: str | None, **prompt: Any) -> Any:
    settings = PromptSettings.model_validate({"format": "chat" if text else "plain", **prompt})
    return two_turns(make_tokenizer(chat_template=text), settings)


def test_the_second_prompt_has_all_parts() -> None:
    plain = turns(None)
    assert plain.judgement is None
    assert plain.second == f"<s>{FIRST}\n> {COMMAND}</s>\n{SECOND}\n> "
    chat = turns(HYBRID)
    assert chat.second == chat.first + chat.answer + chat.appended
    assert chat.second == f"{ASKED.format(FIRST)}{COMMAND}<|im_end|>\n{ASKED.format(SECOND)}"


def test_an_answer_has_thoughts_if_the_run_has() -> None:
    shown = turns(PRESERVING, think=True, template_options={"preserve_thinking": True})
    assert shown.first.endswith("<think>\n")
    assert shown.answer == (f"The desk is near.\n</think>\n\n<action>{COMMAND}</action><|im_end|>")


def test_a_template_that_drops_thoughts_writes_a_new_prompt() -> None:
    shown = turns(DISTILL, think=True)
    assert (shown.judgement.how, shown.appended) == ("whole", "")
    action = f"<action>{COMMAND}</action>"
    assert shown.answer == f"The desk is near.\n</think>\n\n{action}<|im_end|>"
    assert shown.second == (
        f"{ASKED.format(FIRST)}{action}<|im_end|>\n{ASKED.format(SECOND)}<think>\n"
    )


def test_a_history_that_forgets_writes_a_new_prompt() -> None:
    shown = turns(HYBRID, history="observations")
    assert (shown.appended, shown.second) == ("", ASKED.format(f"{FIRST}\n\n{SECOND}"))


def test_a_refusal_names_the_setting() -> None:
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"
    with pytest.raises(ValueError, match=r"^prompt\.system: "):
        turns(no_system + HYBRID, system="Win.")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = save_policy(tmp_path / "model", 0)
    make_tokenizer(chat_template=HYBRID).save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 3, 7]}))
    (tmp_path / "c.yaml").write_text(f"run_folder: {tmp_path}/run\nprompt: {{format: chat}}\n")
    return folder


def test_the_command_shows_how_and_what(
    model: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    option = "prompt.template_options.enable_thinking=false"
    shown = command_line("prompt", tmp_path / "c.yaml", f"model.path={model}", option)
    assert (shown.status, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[:2] == [
        "format: chat, append",
        r"earlier turns keep '<think>\n\n</think>\n\n', which the template would drop",
    ]
    assert lines[2].startswith("an answer ends with: <|im_end|> (3), </s> (1), ")
    assert lines[2].endswith(" (7)")
    for part in ("--- the first prompt:", "--- an answer:", COMMAND, SECOND, "<|im_end|>"):
        assert any(part in line for line in lines), part


def test_the_command_says_why_each_turn_has_a_new_prompt(
    model: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    shown = command_line("prompt", tmp_path / "c.yaml", "prompt.think=true", "--model", model)
    assert (shown.status, shown.err) == (0, "")
    assert "format: chat, whole\nwhy not append: the tokenizer's chat template drops" in shown.out
    assert "--- the second prompt, which is a new one:\n<|im_start|>user" in shown.out
    assert f"<action>{COMMAND}</action><|im_end|>" in shown.out


def test_the_command_refuses_an_option_that_is_none(
    model: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    option = "prompt.template_options.enable_thinkin=false"
    shown = command_line("prompt", tmp_path / "c.yaml", "--model", model, option)
    assert shown.status == 2
    assert shown.err.strip() == (
        "error: prompt.template_options.enable_thinkin: the tokenizer's chat template never reads "
        "it; did you mean 'enable_thinking'? Or remove it"
    )


def test_the_command_shows_what_ends_answers_and_thoughts(
    model: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    options = ("prompt.stop=[</action>]", "prompt.text_after_action=ignore", "prompt.think=true")
    budget = "episode.max_thought_tokens=256"
    shown = command_line("prompt", tmp_path / "c.yaml", f"model.path={model}", *options, budget)
    assert (shown.status, shown.err) == (0, "")
    for line in (
        "an answer also ends after: '</action>'",
        "text after the action is ignored",
        r"a thought of 256 tokens is cut off, and goes on with '\n</think>\n\n'",
    ):
        assert f"\n{line}\n" in shown.out
    refused = command_line("prompt", tmp_path / "c.yaml", f"model.path={model}", budget)
    assert (refused.status, refused.out) == (2, "")
    assert "episode.max_thought_tokens: 256 limits thoughts" in refused.err


def test_the_command_says_that_earlier_thoughts_are_left_out(
    model: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    options = ("prompt.think=true", "prompt.history_thoughts=false")
    shown = command_line("prompt", tmp_path / "c.yaml", *options, "--model", model)
    assert (shown.status, shown.err) == (0, "")
    assert (
        "format: chat, whole\nwhy not append: prompt.history_thoughts: false leaves out the "
        "thoughts of earlier turns\n"
    ) in shown.out
    assert f"<|im_start|>assistant\n<action>{COMMAND}</action><|im_end|>" in shown.out
