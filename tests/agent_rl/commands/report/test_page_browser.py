"""The page in a real browser, from a file: Chromium without a screen, driven by Playwright."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_rl.commands.report.report import write_report
from tests.builders.reports import (
    HOSTILE_SHOWN,
    hostile,
    real_runs,
    write_evaluation,
    write_records,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
MOST_MS = 60_000
"""A busy machine takes its time."""


class Opened:
    """A page that was opened, with all that the browser said of it."""

    def __init__(self, browser: Any, path: Path, *, dark: bool = False, link: str = "") -> None:
        self.said: list[str] = []
        scheme = "dark" if dark else "light"
        self.page = browser.new_context(color_scheme=scheme).new_page()
        self.page.set_default_timeout(MOST_MS)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._keep_request)
        self.page.goto(f"file://{path}{link}")
        self.page.wait_for_selector("html[data-ready=yes]")

    def _keep_request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.said.append(request.url)

    def rows(self) -> list[str]:
        """The first cells of the list's rows that can be seen: the links."""
        found: list[str] = self.page.locator("#list tbody tr a").all_inner_texts()
        return found

    def found(self) -> str:
        """How many episodes the list has."""
        text: str = self.page.locator("#found").inner_text()
        return text

    def background(self, selector: str) -> str:
        """The colour behind the first such element."""
        colour: str = self.page.locator(selector).first.evaluate(
            "element => getComputedStyle(element).backgroundColor"
        )
        return colour


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two real runs; an episode of each has texts that are HTML.

    The first run kept numbers of its tokens in its second step, and was evaluated.
    """
    paths = real_runs(tmp_path_factory.mktemp("runs"), change=hostile)
    write_records(paths[0], 2)
    write_evaluation(paths[0])
    return write_report(paths)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        # The sandbox needs rights that a container's root does not have.
        arguments = ["--no-sandbox", "--disable-gpu"]
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield launched
        launched.close()


def test_filters_search_and_pages(browser: Any, report_file: Path) -> None:
    opened = Opened(browser, report_file)
    page = opened.page
    assert opened.found() == "78 of 78 episodes"
    assert len(opened.rows()) == 20
    page.get_by_text("next page").click()
    assert opened.rows()[0] == "2/1/3"
    page.select_option("#filter-run", "1")
    page.select_option("#filter-outcome", "success")
    page.fill("#filter-from", "2")
    # One member of the first group won, and five of the second.
    assert opened.rows() == ["2/1/2", "2/2/1", "2/2/2", "2/2/3", "2/2/4", "2/2/5"]
    page.select_option("#filter-family", "pick_and_place_simple")
    assert opened.found() == "1 of 78 episodes"
    for key in ("run", "outcome", "family"):
        page.select_option(f"#filter-{key}", "")
    page.fill("#filter-from", "")
    page.fill("#filter-text", "DOCUMENT.title")
    page.press("#filter-text", "Enter")
    page.locator("#found", has_text="2 of 78").wait_for()
    assert opened.rows() == ["1/1/1", "1/1/1"]
    assert opened.said == []


def test_an_episode_by_its_link(browser: Any, report_file: Path) -> None:
    opened = Opened(browser, report_file, link="#episode=grpo-s0:1/1/1")
    page = opened.page
    page.wait_for_selector("#turns .turn")
    text = page.locator("#turns").inner_text()
    # HTML of an environment or a model is text, and did nothing.
    assert HOSTILE_SHOWN in text
    assert page.title().startswith("gmpo-s0, grpo-s0")
    assert page.locator("#turns b", has_text="bold").count() == 0
    assert page.locator(".member").count() == 6
    assert page.locator(".member.here").count() == 1
    # Its task was played six times in each of two steps.
    assert page.locator("svg circle.won, svg circle.lost").count() == 12
    assert page.locator("svg .place.been").count() > 0
    page.get_by_role("button", name="next", exact=True).click()
    page.locator(".member.here a", has_text="1/1/2").wait_for()
    assert page.url.endswith("#episode=grpo-s0:1/1/2")
    assert opened.said == []


def test_colours_tell_the_chosen_quantity(browser: Any, report_file: Path) -> None:
    opened = Opened(browser, report_file, link="#episode=gmpo-s0:1/1/2")
    page = opened.page
    page.wait_for_selector("#turns .turn")
    options = page.locator("#quantity option").all_inner_texts()
    assert options == ["log-prob", "advantage", "version"]
    token = ".tokens.agent span"
    by_logprob = opened.background(token)
    assert "token " in page.locator(token).first.get_attribute("title")
    page.select_option("#quantity", "advantage")
    # The only one of its group that was won: its advantage is above 0, which is orange.
    assert opened.background(token) != by_logprob
    assert opened.background(token).startswith("rgba(217, 95, 2")
    page.goto(page.url.replace("1/1/2", "1/1/3"))
    page.locator(".member.here a", has_text="1/1/3").wait_for()
    assert opened.background(token).startswith("rgba(31, 119, 180")
    assert page.locator(f"{token}.plain").count() == 0
    assert "not trained" not in page.locator("#legend").inner_text()
    # What the prompt gained is grey.
    page.locator(".prompt summary").first.click()
    page.wait_for_selector(".prompt .tokens")
    assert opened.background(".prompt .tokens").startswith("rgba(128, 128, 128")
    assert opened.said == []


def test_colours_of_recorded_tokens(browser: Any, report_file: Path) -> None:
    opened = Opened(browser, report_file, link="#episode=gmpo-s0:2/1/2")
    page = opened.page
    page.wait_for_selector("#turns .turn")
    options = page.locator("#quantity option").all_inner_texts()
    sampled, recorded = options[:3], options[3:]
    assert sampled == ["log-prob", "advantage", "version"]
    assert recorded == ["ratio", "clipped", "weight", "entropy", "mismatch", "staleness"]
    # Of the first turn: clipped, left out of the loss, and trained.
    in_turn = ".turn:first-child .tokens.agent span"
    first, second, third = (f"{in_turn}:nth-child({place})" for place in (1, 2, 3))
    grey, none = "rgba(128, 128, 128, 0.25)", "rgba(0, 0, 0, 0)"
    page.select_option("#quantity", "ratio")
    # exp(0.2) is 1.221, the farthest from 1.
    assert opened.background(first).startswith("rgba(217, 95, 2, 0.75")
    assert opened.background(second) == grey
    assert page.locator("#legend").inner_text().split("\n") == [
        "0.779",
        "1.22",
        "new over old probability",
        "not trained",
    ]
    page.select_option("#quantity", "clipped")
    assert opened.background(first) == "rgba(217, 95, 2, 0.6)"
    assert opened.background(third) == none
    legend = page.locator("#legend").inner_text()
    assert "ratio too high at A > 0" in legend
    assert "not trained" in legend
    page.locator(first).click()
    told = page.locator(".turn:first-child .told").inner_text()
    assert told == page.locator(first).get_attribute("title")
    for said in ("ratio 1.2214", "clipped high", "weight 0", "share of the loss 0"):
        assert f", {said}" in told
    assert "left out of the loss" in page.locator(second).get_attribute("title")
    assert "weight 1.5" in page.locator(third).get_attribute("title")
    # The third group did not go through the learner: it is grey throughout.
    page.goto(page.url.replace("2/1/2", "2/3/1"))
    page.locator(".member.here a", has_text="2/3/1").wait_for()
    token = ".tokens.agent span"
    assert page.locator(token).count() == page.locator(f"{token}.plain").count() > 0
    assert page.locator("#legend").inner_text() == "not trained"
    assert opened.said == []


def test_episodes_of_an_evaluation(browser: Any, report_file: Path) -> None:
    opened = Opened(browser, report_file)
    page = opened.page
    name = "step-000002-valid_seen-t0.4-1f3a9c2e"
    assert page.locator("#filter-source option").all_inner_texts() == ["all", "training", name]
    page.select_option("#filter-source", name)
    assert opened.found() == "6 of 78 episodes"
    # The repeats of a game stand together; the number is that of the line in its file.
    assert opened.rows()[:4] == [
        "repeat 1, line 1",
        "repeat 2, line 3",
        "repeat 1, line 2",
        "repeat 2, line 2",
    ]
    page.select_option("#filter-outcome", "success")
    assert opened.rows() == ["repeat 2, line 3", "repeat 1, line 2", "repeat 2, line 2"]
    page.locator("#list tbody tr a").first.click()
    page.wait_for_selector("#turns .turn")
    assert page.url.endswith(f"#episode=gmpo-s0:{name}/2/3")
    assert page.locator(".member a").all_inner_texts() == ["repeat 1, line 1", "repeat 2, line 3"]
    assert page.locator("h4").first.inner_text() == "The same game in each repeat"
    # Nothing is trained in an evaluation, so all its tokens have a colour.
    assert page.locator("#quantity option").all_inner_texts() == ["log-prob", "version"]
    assert page.locator(".tokens.agent span").count() > 0
    assert page.locator(".tokens.agent span.plain").count() == 0
    assert "not trained" not in page.locator("#legend").inner_text()
    assert page.locator("svg circle.won, svg circle.lost").count() == 2
    # Its policy is the checkpoint of step 2.
    page.fill("#filter-from", "3")
    assert opened.found() == "0 of 78 episodes"
    linked = Opened(browser, report_file, link=f"#episode=gmpo-s0:{name}/1/2")
    linked.page.locator(".member.here a", has_text="repeat 1, line 2").wait_for()
    assert opened.said == linked.said == []


def test_both_themes(browser: Any, report_file: Path) -> None:
    light, dark = Opened(browser, report_file), Opened(browser, report_file, dark=True)
    for opened in (light, dark):
        opened.page.wait_for_selector(".plot .main-svg")
    white, black = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
    assert (light.background("body"), dark.background("body")) == (white, black)
    dark.page.locator("#theme").click()
    assert dark.background("body") == white
    light.page.emulate_media(media="print", color_scheme="dark")
    assert light.background("body") == white
    assert (light.said, dark.said) == ([], [])
