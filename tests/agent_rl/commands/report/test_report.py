"""`agent-rl report` on runs that are whole, empty, damaged or going on."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest

from agent_rl.commands.report import report
from agent_rl.commands.report.chunks import unpacked
from agent_rl.config import ConfigError
from agent_rl.files import locked
from agent_rl.runs.ending import recorded_end
from agent_rl.runs.layout import RunLayout
from tests.builders.comparisons import write_training
from tests.builders.reports import HOSTILE_SHOWN, facts_of, hostile, packed_in, real_runs


def test_the_report_of_two_real_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = real_runs(tmp_path, change=hostile)
    written = report.write_report(paths)
    assert written == tmp_path / "report.html"
    html = written.read_text()
    assert "all 72 episodes that are on disk are in it" in capsys.readouterr().out
    facts, held = facts_of(html), packed_in(html)
    assert (facts["runs"], facts["episodes"]) == (["gmpo-s0", "grpo-s0"], [36, 36])
    assert "Paired over all seeds, valid_seen" in html
    assert "learner.objective" in html
    index = unpacked(held["index-1"])
    assert index["id"][:2] == ["1/1/1", "1/1/2"]
    # A task is drawn in both steps here.
    assert (index["task"].count(index["task"][0]), set(index["step"])) == (12, {1, 2})
    chunk = unpacked(held[f"episodes-1-{index['chunk'][0]}"])
    turn = chunk["episodes"][index["place"][0]]["turns"][0]
    assert chunk["texts"][turn["x"]] == HOSTILE_SHOWN
    texts = unpacked(held["tokens-1"])
    assert {str(token) for token in (*turn["p"], *turn["i"])} <= texts.keys()
    assert len(unpacked(held["charts"])) == facts["charts"]


def test_a_run_without_episodes(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run")
    html = report.write_report([path]).read_text()
    assert RunLayout(path).page.is_file()
    assert "No episodes are on disk." in html
    assert list(packed_in(html)) == ["charts", "plotly"]


def test_a_run_that_failed_before_its_first_step(tmp_path: Path) -> None:
    path = write_training(tmp_path / "run", steps=0)
    html = report.write_report([path], tmp_path / "new/page.html").read_text()
    assert "no rollout step yet" in html
    assert facts_of(html)["charts"] == 0


def test_a_budget_samples_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = real_runs(tmp_path)[0]
    html = report.write_report([path], episodes_mb=0.001).read_text()
    assert "12 of 36 episodes are in it: whole groups" in capsys.readouterr().out
    assert facts_of(html)["episodes"] == [12]


def test_a_folder_as_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name a file, such as report\.html"):
        report.write_report([write_training(tmp_path / "run")], tmp_path)


def test_a_watched_run_is_written_again_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_POLL_SECONDS", 0.05)
    path = write_training(tmp_path / "run", steps=1)
    metrics, page = RunLayout(path).train.metrics_file, RunLayout(path).page
    second = metrics.read_text().replace('"step": 1', '"step": 2')
    watcher = threading.Thread(target=report.watch_runs, args=([path],))
    with (
        locked(RunLayout(path).lock_file, "busy"),
        suppress(ConfigError),
        recorded_end(RunLayout(path), lambda: ""),
    ):
        watcher.start()
        wait_for(page, "1 of 3 rollout steps")
        with metrics.open("a") as file:
            file.write(second)
        wait_for(page, "2 of 3 rollout steps")
        assert watcher.is_alive()
        raise ConfigError("the disk is full")
    watcher.join(timeout=60)
    assert not watcher.is_alive()
    # The end has no step of its own, and is shown.
    assert "the disk is full" in page.read_text()


def wait_for(page: Path, text: str) -> None:
    """Wait until the page has a text."""
    waited = threading.Event()
    for _ in range(600):
        if page.is_file() and text in page.read_text():
            return
        waited.wait(0.1)
    raise AssertionError(f"{page} never had {text!r}")
