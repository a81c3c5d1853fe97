"""A table in Markdown and on the terminal."""

from agent_rl.commands.compare.tables import Grid


def test_a_table_in_markdown() -> None:
    grid = Grid(title="t", heads=("a", "b", "c"), rows=[("x|y", "1", "2")], page_only=(1,))
    assert grid.markdown() == "| a | b | c |\n| --- | ---: | ---: |\n| x\\|y | 1 | 2 |"
    assert [column.header for column in grid.table().columns] == ["a", "c"]
