from agent_rl.evaluation.rows import HEADS, cells, gap_cells, gap_rows, lines_below, rows_of
from tests.builders.runs import report

REPORT = report({"seen": {"pick1": [True, False], "put1": [False, False]}, "new": {"put2": [True]}})


def test_a_split_has_a_row_for_each_family_and_one_for_all_games() -> None:
    rows = rows_of(REPORT.splits["seen"])
    assert [(name, score.n, score.success) for name, score in rows] == [
        ("pick", 1, 0.5),
        ("put", 1, 0.0),
        ("all", 2, 0.25),
    ]


def test_the_cells_of_a_score_are_those_of_the_heads() -> None:
    written = dict(zip(HEADS, cells(REPORT.splits["new"].overall), strict=True))
    assert (written["n"], written["success %"], written["turns"]) == ("1", "100.0", "1.0")
    lost = cells(REPORT.splits["seen"].families["put"])
    assert dict(zip(HEADS, lost, strict=True))["turns to success"] == "-"


def test_a_gap_is_written_in_points() -> None:
    assert REPORT.gap is not None
    rows = [(name, gap_cells(gap)[0]) for name, gap in gap_rows(REPORT.gap)]
    assert rows == [("put", "-100.0"), ("all", "-75.0")]


def test_repeats_are_told_below() -> None:
    assert lines_below(REPORT.splits["seen"])[0] == "repeats: 50.0 0.0"
    assert lines_below(REPORT.splits["new"]) == []
