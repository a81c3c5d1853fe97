"""docs/walkthrough.md: its program runs, is short, and prints what the page says."""

import re

import pytest

from tests.builders.paths import ROOT

PAGE = (ROOT / "docs" / "walkthrough.md").read_text()
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
MOST_LINES = 80


def program() -> str:
    """The Python blocks of the page, one after the other."""
    return "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))


def test_it_is_short() -> None:
    assert 0 < len(program().splitlines()) <= MOST_LINES


@pytest.mark.process
def test_it_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program(), "docs/walkthrough.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    [shown] = re.findall(r"```\n(warm start.*?)```", PAGE, re.DOTALL)
    assert [NUMBER.sub("#", line) for line in printed] == [
        NUMBER.sub("#", line) for line in shown.splitlines()
    ]
    first, second, last = printed[-3:]
    assert first == "update 1: loss +0.0000, ratios 1.00 to 1.00", (
        "the policy is the one that played"
    )
    low, high = (float(text) for text in re.findall(r"\d\.\d\d(?!\d)", second)[-2:])
    assert low < 1.0 < high
    assert float(last.rpartition(" ")[2]) > 0.0, "better episodes became likelier than worse ones"
