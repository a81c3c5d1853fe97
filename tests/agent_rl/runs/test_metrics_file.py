from pathlib import Path

from agent_rl.runs.metrics_file import read_metrics


def test_steps_are_in_order_and_the_last_line_of_each_counts(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 2, "a": 1.0}\n{"step": 1}\n{"step": 2, "a": 2.0}\n')
    assert read_metrics(file) == {1: {}, 2: {"a": 2.0}}


def test_torn_lines_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"st{"step": 1}\n7\n\xff\x00\n{"a": 1}\n{"step": 3, "a": 0.5}\n{"step": 4, ')
    assert read_metrics(file) == {3: {"a": 0.5}}


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == {}
