"""The page of prompts: its table is that of the tests."""

from tests.builders.chat_templates import FAMILIES
from tests.builders.paths import ROOT


def test_the_table_of_known_models() -> None:
    page = (ROOT / "docs" / "prompts.md").read_text()
    rows = page.partition("|---|---|---|---|\n")[2].partition("\n\n")[0].splitlines()
    assert rows == [family.row for family in FAMILIES]
