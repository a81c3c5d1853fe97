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
        "learner/gains/log_ratio_p001": -0.5,
        "learner/gains/log_ratio_p999": 0.25,
        "learner/losses/log_ratio_p001": -2.5,
        "learner/losses/log_ratio_p999": 0.75,
        "learner/effective_share": 0.9,
        "learner/kl_old": 0.004,
        "learner/top_share": 0.05,
        "learner/grad_norm_spread": 3.0,
        "learner/probe_cosine": 0.99,
        "learner/probe_norm_ratio": 1.5,
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
            "gains_p001": -0.5,
            "gains_p999": 0.25,
            "losses_p001": -2.5,
            "losses_p999": 0.75,
            "effective_share": 0.9,
            "kl_old": 0.004,
            "top_share": 0.05,
            "grad_norm_spread": 3.0,
            "probe_cosine": 0.99,
            "probe_norm_ratio": 1.5,
        }
    )
    optional = set(list(line)[8:])
    assert set(mechanism_keys()) == set(line) - optional
    assert set(mechanism_keys(optional=True)) == optional


def test_a_run_of_an_earlier_version_has_no_staleness_and_knows_nothing_of_the_rest() -> None:
    values = {metric.name: metric.value({}) for metric in MECHANISM if metric.is_optional}
    of_look_ahead = {"staleness_mean": 0.0, "staleness_max": 0.0}
    assert {name: value for name, value in values.items() if value is not None} == of_look_ahead


def test_names_rows_and_panels_are_unique_and_the_panels_fill_their_rows() -> None:
    rows = [metric.row for metric in MECHANISM if metric.row]
    panels = [metric.panel for metric in MECHANISM if metric.panel]
    for texts in ([metric.name for metric in MECHANISM], rows, panels):
        assert len(set(texts)) == len(texts)
    assert len(panels) % 3 == 0
