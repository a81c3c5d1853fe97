from rollouts.rendering.visible import visible


def test_control_characters_are_spelled_out_and_others_stay() -> None:
    assert visible("\x1b[31m\a\r\x9b\u202e\ud83d") == r"\x1b[31m\x07\r\x9b\u202e\ud83d"
    assert visible("a\tb\nc \u00e9 \u4e16 \U0001f600 [b]") == "a\tb\nc \u00e9 \u4e16 \U0001f600 [b]"
