"""HTML for notebooks, which show an object by its `_repr_html_`. Light to import.

All text is escaped. No colours of text or ground are set, so a notebook's light and dark themes are
both readable.
"""

from collections.abc import Iterable, Sequence
from html import escape

from rollouts.rendering.visible import visible


class Html(str):
    """A cell that is HTML already, and is put into a table as it is."""


_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_CELL = "padding: 0.2em 0.7em; vertical-align: top;"


def html_table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    texts: Sequence[int] = (0,),
    notes: Sequence[str] = (),
) -> str:
    """A table as HTML.

    Args:
        caption: stands above it.
        head: the columns' names.
        rows: the cells as plain text, or as `Html`.
        texts: numbers of the columns with text: they are on the left, and keep their line ends.
            The others have numbers, on the right.
        notes: lines below it.
    """
    lines = [
        f'<table style="border-collapse: collapse; border-bottom: {_LINE};">',
        '<caption style="text-align: left; font-weight: bold; padding: 0.3em 0;">'
        f"{safe(caption)}</caption>",
        f'<thead><tr style="border-bottom: {_LINE};">',
    ]
    for column, name in enumerate(head):
        lines.append(f'<th scope="col" style="{_style(column in texts)}">{safe(name)}</th>')
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = []
        for column, cell in enumerate(row):
            content = cell if isinstance(cell, Html) else safe(cell)
            cells.append(f'<td style="{_style(column in texts)}">{content}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    for note in notes:
        lines.append(f'<p style="margin: 0.3em 0;">{safe(note)}</p>')
    return "\n".join(lines)


def safe(text: str) -> str:
    r"""The text as HTML that shows it and does nothing else.

    >>> safe("<b>\u202e")
    '&lt;b&gt;\\u202e'
    """
    return escape(visible(text))


def _style(is_text: bool) -> str:
    if is_text:
        return f"{_CELL} text-align: left; white-space: pre-wrap;"
    return f"{_CELL} text-align: right; white-space: nowrap;"
