import math
from typing import Any

import pytest
import torch

from agent_rl.learner.metrics import TokenRecord, update_metrics


def record(log_ratio: list[float], **columns: list[Any]) -> TokenRecord:
    """Tokens of episodes of one turn, of which nothing else is to be said."""
    count = len(log_ratio)
    values: dict[str, list[Any]] = {
        "entropy": [0.0] * count,
        "mismatch": [0.0] * count,
        "kl": [0.0] * count,
        "clipped_low": [False] * count,
        "clipped_high": [False] * count,
        "clipped_dual": [False] * count,
        "left_out": [False] * count,
        "turns": [1] * count,
        "advantage": [1.0] * count,
        "capped": [False] * count,
        "staleness": [0] * count,
        "share": [0.0] * count,
        "weight": [0.0] * count,
        **columns,
    }
    return TokenRecord(
        log_ratio=torch.tensor(log_ratio), **{name: torch.tensor(v) for name, v in values.items()}
    )


def test_ratios_by_hand() -> None:
    got = update_metrics([], [record([math.log(2.0), 0.0, math.log(0.5), math.log(4.0)])])
    assert got["ratio_mean"] == pytest.approx((2 + 1 + 0.5 + 4) / 4)
    assert got["log_ratio_rms"] == pytest.approx(math.log(2.0) * math.sqrt((1 + 0 + 1 + 4) / 4))
    assert got["log_ratio_abs_max"] == pytest.approx(math.log(4.0))
    assert got["effective_share"] == pytest.approx(7.5**2 / (4 * (4 + 1 + 0.25 + 16)))
    # k3 of KL(old || new) is r - log r - 1 with r = new / old; the logarithms add up to 2 log 2.
    assert got["kl_old"] == pytest.approx((7.5 - 2 * math.log(2.0)) / 4 - 1)


def test_quantiles_by_hand() -> None:
    # Of 101 ratios 1.00, 1.01, ..., 2.00, in any order.
    ratios = [1 + (37 * i % 101) / 100 for i in range(101)]
    got = update_metrics([], [record([math.log(ratio) for ratio in ratios])])
    assert [got["ratio_p01"], got["ratio_p50"], got["ratio_p99"]] == pytest.approx(
        [1.01, 1.5, 1.99]
    )
    one = update_metrics([], [record([0.0])])
    assert one["effective_share"] == 1.0
    assert [one["ratio_p01"], one["ratio_p50"], one["ratio_p99"]] == [1.0, 1.0, 1.0]


def test_the_mismatch_by_hand() -> None:
    mismatch = [math.log(4.0), 0.0, -math.log(8.0), math.log(1.5)]
    got = update_metrics([], [record([0.0] * 4, mismatch=mismatch)])
    assert got["mismatch_abs_mean"] == pytest.approx(math.log(4.0 * 8.0 * 1.5) / 4)
    assert got["mismatch_abs_max"] == pytest.approx(math.log(8.0))
    assert got["mismatch_share"] == 0.5, "beyond 2 or below 1/2"
    assert got["mismatch_kl"] == pytest.approx(
        (4 + 1 + 1 / 8 + 1.5 - math.log(4.0 * 1.5 / 8.0)) / 4 - 1
    )
    assert got["kl_old"] == 0.0


def test_shares_and_means_by_hand() -> None:
    tokens = record(
        [0.0] * 4,
        entropy=[1.0, 2.0, 3.0, 4.0],
        kl=[0.0, 0.0, 0.0, 2.0],
        clipped_low=[True, False, False, False],
        clipped_high=[False, True, True, False],
        clipped_dual=[True, True, True, False],
        left_out=[False, False, False, True],
    )
    got = update_metrics([], [tokens])
    assert (got["entropy"], got["kl_reference"]) == (2.5, 0.5)
    assert (got["clip_fraction_low"], got["clip_fraction_high"], got["left_out_share"]) == (
        0.25,
        0.5,
        0.25,
    )
    assert got["clip_fraction_dual"] == 0.75
    assert got["trained_tokens"] == 4.0


def test_tokens_are_looked_at_by_the_turns_of_their_episode() -> None:
    turns = [1, 10, 11, 20, 30, 31, 50]
    tokens = record(
        [0.1, 0.1, 0.2, 0.4, 0.5, 0.6, 0.6],
        turns=turns,
        clipped_low=[True, False, False, False, False, False, False],
        clipped_high=[False, False, False, True, True, False, False],
    )
    got = update_metrics([], [tokens])
    buckets = ("turns_1_10", "turns_11_20", "turns_21_30", "turns_over_30")
    assert [got[f"{name}/clip_fraction_low"] for name in buckets] == [0.5, 0.0, 0.0, 0.0]
    assert [got[f"{name}/clip_fraction_high"] for name in buckets] == [0.0, 0.5, 1.0, 0.0]
    expected = [0.1, math.sqrt((0.04 + 0.16) / 2), 0.5, 0.6]
    assert [got[f"{name}/log_ratio_rms"] for name in buckets] == pytest.approx(expected)
    found = {name.split("/")[0] for name in got if name.startswith("turns_")}
    assert found == set(buckets)


def test_staleness_by_hand() -> None:
    tokens = record(
        [0.1, 0.3, 0.5, 0.7, 0.9],
        staleness=[0, 2, 2, 4, 7],
        mismatch=[0.0, 0.3, -0.4, 0.5, -0.5],
        clipped_low=[False, False, True, False, False],
        clipped_high=[False, True, True, False, True],
        capped=[False, False, True, True, False],
        left_out=[False, False, False, False, True],
    )
    got = update_metrics([], [tokens])
    assert (got["staleness_mean"], got["staleness_max"]) == (3.0, 7.0)
    by_value = {
        "token_share": (0.2, 0.4, 0.4),
        "mismatch_rms": (0.0, math.sqrt((0.09 + 0.16) / 2), 0.5),
        "log_ratio_rms": (0.1, math.sqrt((0.09 + 0.25) / 2), math.sqrt((0.49 + 0.81) / 2)),
        "clip_fraction_low": (0.0, 0.5, 0.0),
        "clip_fraction_high": (0.0, 1.0, 0.5),
        "capped_share": (0.0, 0.5, 0.5),
        "left_out_share": (0.0, 0.0, 0.5),
    }
    names = ("staleness_0", "staleness_2", "staleness_over_3")
    for key, expected in by_value.items():
        assert [got[f"{name}/{key}"] for name in names] == pytest.approx(list(expected)), key
    assert {name for name in got if name.startswith("staleness_") and "/" in name} == {
        f"{name}/{key}" for name in names for key in by_value
    }


def test_without_stale_tokens_nothing_is_told_apart() -> None:
    got = update_metrics([], [record([0.1, 0.2])])
    assert [name for name in got if name.startswith("staleness")] == [
        "staleness_mean",
        "staleness_max",
    ]
    assert (got["staleness_mean"], got["staleness_max"]) == (0.0, 0.0)
    # If all tokens are stale, they have a value of their own, and 0 has none.
    all_stale = update_metrics([], [record([0.1, 0.2], staleness=[1, 1])])
    assert all_stale["staleness_1/token_share"] == 1.0
    assert "staleness_0/token_share" not in all_stale


def test_tokens_weigh_the_same_in_whatever_record_they_come() -> None:
    one, three = (
        record([0.1], turns=[12], staleness=[2]),
        record([0.2, -0.3, 0.9], clipped_high=[False, False, True], staleness=[0, 2, 1]),
    )
    whole = record(
        [0.1, 0.2, -0.3, 0.9],
        turns=[12, 1, 1, 1],
        clipped_high=[False, False, False, True],
        staleness=[2, 0, 2, 1],
    )
    assert update_metrics([], [one, three]) == pytest.approx(update_metrics([], [whole]))
    assert update_metrics([], [three, one]) == pytest.approx(update_metrics([], [whole]))


def test_losses_and_norms_are_means_over_the_optimizer_steps() -> None:
    got = update_metrics(
        [{"loss": 1.0, "grad_norm": 4.0}, {"loss": -2.0, "grad_norm": 2.0}], [record([0.0])]
    )
    assert (got["loss"], got["grad_norm"]) == (-0.5, 3.0)


@pytest.mark.parametrize("records", [[], [record([])], [record([]), record([])]])
def test_with_nothing_trained_every_key_is_there_and_0(records: list[TokenRecord]) -> None:
    usual = update_metrics([{"loss": 1.0, "grad_norm": 1.0}], [record([0.3])])
    assert update_metrics([], records) == dict.fromkeys(usual, 0.0)


def test_small_differences_are_not_lost_in_single_precision() -> None:
    # A learning rate of 1e-6 makes steps of 1e-4; the divergence is half their square.
    step = record([1e-4, -1e-4] * 500, mismatch=[1e-4, -1e-4] * 500)
    got = update_metrics([], [step])
    assert got["kl_old"] == pytest.approx(5e-9, rel=0.01)
    assert got["mismatch_kl"] == pytest.approx(5e-9, rel=0.01)


def test_the_tails_of_log_ratios_by_the_sign_of_the_advantage() -> None:
    # 1,001 gains at 0.000, 0.001 ... 1.000, three losses, and a token of advantage 0.
    log_ratio = [i / 1000 for i in range(1001)] + [-3.0, -2.0, 5.0] + [9.0]
    advantage = [0.5] * 1001 + [-1.0] * 3 + [0.0]
    got = update_metrics([], [record(log_ratio, advantage=advantage)])
    assert got["gains/log_ratio_p001"] == pytest.approx(0.001)
    assert got["gains/log_ratio_p999"] == pytest.approx(0.999)
    assert [got["losses/log_ratio_p001"], got["losses/log_ratio_p999"]] == [-3.0, -2.0]


def test_the_top_tokens_share_by_hand() -> None:
    # |A| times ratio: 199 tokens of 1, and one of 2 * 10.
    log_ratio = [0.0] * 199 + [math.log(10.0)]
    advantage = [1.0] * 100 + [-1.0] * 99 + [-2.0]
    got = update_metrics([], [record(log_ratio, advantage=advantage)])
    # The top 1 % are two tokens.
    assert got["top_share"] == pytest.approx((20 + 1) / (199 + 20))
    alike = update_metrics([], [record([0.3] * 200, advantage=advantage[:100] * 2)])
    assert alike["top_share"] == pytest.approx(0.01)


def test_the_spread_of_gradient_norms() -> None:
    steps = [{"loss": 0.0, "grad_norm": norm} for norm in (1.0, 2.0, 8.0)]
    assert update_metrics(steps, [])["grad_norm_spread"] == 4.0
    assert update_metrics(steps[:1], [])["grad_norm_spread"] == 1.0
    assert update_metrics([], [])["grad_norm_spread"] == 0.0
