"""The page of a report: a template, a style, scripts, and the data in compressed texts.

It names no address of a server. Its policy (CSP) forbids the browser to ask for one, and to run a
script that is not the page's own. So a text of an environment or a model stays a text.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from agent_rl.commands.compare.tables import Grid
from agent_rl.commands.report.chunks import packed
from agent_rl.commands.report.runs import ReportedRun
from agent_rl.display import visible

_SCRIPTS = (
    "data.js",
    "charts.js",
    "episodes.js",
    "room.js",
    "colours.js",
    "episode.js",
    "start.js",
)
"""In the order in which the page runs them."""
_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""What the browser may do with the page (CSP)."""
PLOTLY = "plotly"
"""The name of the packed text that holds Plotly's script."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything that a page shows."""

    title: str
    """Its title."""
    made: str
    """When it was made, for a person."""
    runs: Sequence[ReportedRun]
    """The runs."""
    notes: Sequence[str]
    """Sentences that a reader has to know."""
    settings: Grid
    """The settings that differ between the runs; for one run those that are not the defaults."""
    evaluations: Sequence[Grid]
    """A table for each split of the last evaluations."""
    comparison: Sequence[Grid]
    """The comparison's tables; none for one run."""
    sampled: str
    """A sentence on which episodes are in the page."""
    facts: Mapping[str, Any]
    """What the scripts have to know at once, in JSON's types."""
    packed: Mapping[str, str]
    """Packed texts by name."""


def render(page: Page) -> str:
    """The page as HTML."""
    style, scripts = _asset("page.css"), [_asset(name) for name in _SCRIPTS]
    # Not random: the same run gives the same page. A text of the run cannot know it, either.
    content = "".join([page.title, page.made, *page.packed.values()])
    nonce = hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:32]
    template = _environment().from_string(_asset("page.html.j2"))
    charts = page.facts["charts"] > 0
    with_plotly = {**page.packed, PLOTLY: _packed_plotly()} if charts else page.packed
    return template.render(
        page=page,
        nonce=nonce,
        policy=_POLICY.format(nonce=nonce),
        style=style,
        scripts=scripts,
        packed=with_plotly,
    )


def _asset(name: str) -> str:
    return (files("agent_rl.commands.report") / "assets" / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )


def _shown(value: Any) -> Any:
    """A text with its control characters spelled out; what is HTML already stays."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return visible(value)


@cache
def _packed_plotly() -> str:
    # Imported here: it takes a second, and a page without charts needs none.
    from plotly.offline import get_plotlyjs

    return packed(get_plotlyjs())
