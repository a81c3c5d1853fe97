"""A few seconds of the fuzzer; `make fuzz` plays ten minutes."""

import pytest

from tests.fuzz.run import fuzz


@pytest.mark.parametrize("area", ["configs", "trajectories", "reports", "games", "environments"])
def test_damaged_files_are_answered_with_an_error_line(area: str) -> None:
    findings = fuzz(2.0, seed=7, areas=[area])
    assert findings.cases[area] > 0
    assert not findings.found


def test_the_fuzzer_finds_a_reader_that_does_not_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.areas.load_trajectories", lambda path: [][len(path.name)])
    with pytest.raises(IndexError):  # the healthy files are read before any damaged one
        fuzz(0.5, areas=["trajectories"])
