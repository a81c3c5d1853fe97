"""The mechanism's metrics, by hand."""

import pytest

from agent_rl.commands.compare.mechanism import MECHANISM, mechanism_keys


def test_the_mechanisms_numbers_are_those_of_their_names() -> None:
    line = {
        "learner/ratio_p01": 0.5,
        "learner/ratio_p99": 1.75,
        "learner/log_ratio_rms": 0.3,
        "learner/clip_fraction_low": 0.01,
        "learner/clip_fraction_high": 0.02,
        "learner/grad_norm": 4.0,
        "learner/entropy": 0.6,
        "learner/mismatch_abs_mean": 0.002,
        "learner/staleness_mean": 0.75,
        "learner/staleness_max": 2.0,
    }
    assert {metric.name: metric.value(line) for metric in MECHANISM} == pytest.approx(
        {
            "ratio_p01": 0.5,
            "ratio_p99": 1.75,
            "ratio_range": 1.25,
            "log_ratio_rms": 0.3,
            "clip_fraction_low": 0.01,
            "clip_fraction_high": 0.02,
            "clip_fraction": 0.03,
            "grad_norm": 4.0,
            "entropy": 0.6,
            "mismatch_abs_mean": 0.002,
            "staleness_mean": 0.75,
            "staleness_max": 2.0,
        }
    )
    of_look_ahead = {"learner/staleness_mean", "learner/staleness_max"}
    assert set(mechanism_keys()) == set(line) - of_look_ahead
    assert set(mechanism_keys(of_look_ahead=True)) == of_look_ahead


def test_a_run_of_a_version_without_staleness_has_none() -> None:
    values = [metric.value({}) for metric in MECHANISM if metric.is_of_look_ahead]
    assert values == [0.0, 0.0]


def test_names_rows_and_panels_are_unique_and_the_panels_fill_their_rows() -> None:
    rows = [metric.row for metric in MECHANISM if metric.row]
    panels = [metric.panel for metric in MECHANISM if metric.panel]
    for texts in ([metric.name for metric in MECHANISM], rows, panels):
        assert len(set(texts)) == len(texts)
    assert len(panels) % 3 == 0
