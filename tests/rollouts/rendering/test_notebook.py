"""Tables for notebooks: texts stay text, and both themes of a notebook can show them."""

from html.parser import HTMLParser

import pytest

from rollouts.rendering.notebook import Html, html_table, safe

HOSTILE = "<script>alert(1)</script></td></table>&lt;\u202e\x1b[2J\"'"


class Cells(HTMLParser):
    """The texts of a table's cells, as a browser reads them, and the tags in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag in ("td", "th", "caption", "p"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip("\n")


def test_texts_stay_text_wherever_they_stand() -> None:
    read = Cells(html_table(HOSTILE, (HOSTILE,), [(HOSTILE,)], notes=(HOSTILE,)))
    shown = HOSTILE.replace("\u202e", r"\u202e").replace("\x1b", r"\x1b")
    assert read.cells == [shown] * 4
    assert read.tags == {"table", "caption", "thead", "tr", "th", "tbody", "td", "p"}


def test_html_is_put_as_it_is_and_only_if_it_says_so() -> None:
    html = html_table("", ("a", "b"), [(Html("<svg></svg>"), "<svg></svg>")])
    assert html.count("<svg></svg>") == 1
    assert "&lt;svg&gt;" in html


def test_columns_of_text_keep_their_line_ends_and_numbers_are_on_the_right() -> None:
    html = html_table("", ("a", "b"), [("x\ny", "1")], texts=(0,))
    text, number = (line for line in html.split("<td")[1:])
    assert "pre-wrap" in text
    assert "x\ny" in text
    assert "text-align: right" in number


@pytest.mark.parametrize("fixed", ["color:", "background"])
def test_no_colour_of_text_or_ground_is_set(fixed: str) -> None:
    assert fixed not in html_table("t", ("a",), [("x",)], notes=("n",))


def test_a_text_alone_is_safe_too() -> None:
    assert safe('<a href="x">') == "&lt;a href=&quot;x&quot;&gt;"
