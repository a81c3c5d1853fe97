import pytest

from rollouts.actions import action_text, as_asked_for, parse_action, without_thought


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("go to desk 1", "go to desk 1"),
        ("  look \n", "look"),
        ("\nlook", "look"),
        ("", None),
        (" \n ", None),
        ("look\nlook", None),
        ("look\r\ngo to desk 1", None),
        ("<action>look</action>", "<action>look</action>"),
    ],
)
def test_plain(text: str, command: str | None) -> None:
    parsed = parse_action(text)
    assert (parsed.text, parsed.command) == (text, command)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("<action>look</action>", "look"),
        (" <action> look </action>\n", "look"),
        ("<think>where?\nhm</think>\n<action>look</action>", "look"),
        ("<think></think><action>look</action>", "look"),
        ("look", None),
        ("<action></action>", None),
        ("<action> \n </action>", None),
        ("<action>look\ngo</action>", None),
        ("<action>look</action> and <action>go</action>", None),
        ("<action>look</action><action>go</action>", None),
        ("so: <action>look</action>", None),
        ("<action>look</action>.", None),
        ("<action>look", None),
        ("<think>hm<action>look</action>", None),
        ("<action>look</action><think>hm</think>", None),
        ("<think>a</think><think>b</think><action>look</action>", None),
        ("<think><action>go</action></think><action>look</action>", None),
    ],
)
def test_tagged(text: str, command: str | None) -> None:
    assert parse_action(text, think=True).command == command


@pytest.mark.parametrize(
    ("text", "think", "whole", "command"),
    [
        ("\nlook\nI look around.", False, True, "look"),
        ("look", False, True, "look"),
        (" \n ", False, True, None),
        # It may be the beginning of "take book 12".
        ("take book 1", False, False, None),
        ("take book 1\nI t", False, False, "take book 1"),
        ("<action>look</action> and <action>go</action>", True, True, "look"),
        ("<think>hm</think><action>look</action>, as I sa", True, False, "look"),
        ("<think>hm</think><action>look</acti", True, False, None),
        ("so: <action>look</action>", True, True, None),
        ("<think>a</think><think>b</think><action>look</action>", True, True, None),
        ("<think><action>go</action></think><action>look</action>", True, True, None),
        ("<action>look\ngo</action>.", True, True, None),
    ],
)
def test_text_after_the_action_may_be_ignored(
    text: str, think: bool, whole: bool, command: str | None
) -> None:
    parsed = parse_action(text, think=think, whole=whole, ignore_rest=True)
    assert (parsed.text, parsed.command) == (text, command)


@pytest.mark.parametrize("text", ["look", "<action>look</action>"])
def test_an_action_that_was_cut_off_is_not_guessed(text: str) -> None:
    assert parse_action(text, think="<" in text, whole=False).command is None


@pytest.mark.parametrize("think", [False, True])
def test_an_action_that_is_written_is_read_back(think: bool) -> None:
    assert parse_action(action_text("look", think=think), think=think).command == "look"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<think>where?\nhm</think>\n<action> look </action>", "<action>look</action>"),
        ("<action>look</action>", "<action>look</action>"),
        # None of these has a command.
        ("<think>hm</think>\n I look around. ", "I look around."),
        ("<think>hm</think><action>look", "<action>look"),
        ("I look around.", "I look around."),
        ("<think>where is", ""),
        ("<think>hm</think>look<think>or", "look"),
        ("", ""),
    ],
)
def test_an_answer_without_its_thought(text: str, shown: str) -> None:
    assert without_thought(text, parse_action(text, think=True).command) == shown


def test_what_an_action_ignores_is_left_out_with_the_thought() -> None:
    said = "<think>hm</think><action>look</action> and then go"
    command = parse_action(said, think=True, ignore_rest=True).command
    assert without_thought(said, command) == "<action>look</action>"


@pytest.mark.parametrize(
    ("text", "plain", "tagged"),
    [
        ("look", "look", "<action>look</action>"),
        ("look \n", "look", "<action>look</action>"),
        ("<action> look</action>", "look", "<action> look</action>"),
        (
            "<think>hm</think>\n<action>look</action>\n",
            "look",
            "<think>hm</think>\n<action>look</action>",
        ),
        # Two actions are none, so nothing is chosen.
        ("<action>a</action><action>b</action>",) * 3,
    ],
)
def test_an_answer_takes_the_form_that_is_asked_for(text: str, plain: str, tagged: str) -> None:
    assert as_asked_for(text, think=False) == plain
    assert as_asked_for(text, think=True) == tagged
