"""The page as HTML: what is escaped, and what it may ask for."""

import re

from agent_rl.commands.compare.tables import Grid
from agent_rl.commands.report.page import PLOTLY, Page, render
from tests.builders.reports import HOSTILE, HOSTILE_SHOWN, facts_of, packed_in


def page(*, charts: int = 0, text: str = "title") -> Page:
    grid = Grid(title=text, heads=("a", text), rows=[(text, "1")])
    return Page(
        title=text,
        made="today",
        runs=[],
        notes=[text],
        settings=grid,
        evaluations=[grid],
        comparison=[],
        sampled="no episodes are on disk",
        facts={"runs": [text], "charts": charts, "episodes": [0]},
        packed={"charts": "eA=="},
    )


def test_texts_stay_texts() -> None:
    html = render(page(text=HOSTILE))
    assert "<script>document" not in html
    assert "<b>bold" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    escaped = HOSTILE_SHOWN.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;")
    assert html.count(escaped) >= 5
    # The scripts get it as it is: they show it as text.
    assert facts_of(html)["runs"] == [HOSTILE]


def test_the_page_asks_no_server() -> None:
    html = render(page())
    assert not re.findall(r"(?:src|href)=\"(?!#|data:)[^\"]*\"", html)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; script-src 'nonce-")
    nonce = re.search(r"'nonce-(\w+)'", policy[1])
    assert nonce is not None
    assert html.count("<script nonce=") == html.count(f'<script nonce="{nonce[1]}"') == 7


def test_plotly_is_in_a_page_with_charts_once() -> None:
    assert list(packed_in(render(page()))) == ["charts"]
    html = render(page(charts=1))
    assert list(packed_in(html)) == ["charts", PLOTLY]
    assert len(html) < 3e6


def test_the_same_page_twice() -> None:
    assert render(page()) == render(page())
