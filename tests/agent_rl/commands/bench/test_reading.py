"""The probe of reading: a tiny random policy plays and is asked again; shares by hand."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from agent_rl.commands.bench.exchanges import Outcome
from agent_rl.commands.bench.reading import (
    AskedAgain,
    GreedyPolicy,
    bench_reading,
    rows_of_reading,
)
from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.statistics import wilson_interval
from rollouts import FinishReason
from tests.builders.command_line import CommandLine
from tests.builders.desks import ID
from tests.builders.models import make_model, save_policy


def config(folder: Path, env_id: str = ID) -> Config:
    return Config.model_validate(
        {
            "run_folder": str(folder),
            "env": {"id": env_id},
            "episode": {"max_turns": 2, "max_action_tokens": 4},
            "evaluation": {"split": "valid", "tasks": 3},
            "serving": {"dtype": "float32"},
        }
    )


def asked(
    outcomes: Sequence[Outcome], *, furniture: bool = True, seen: bool = True
) -> list[AskedAgain]:
    return [
        AskedAgain(
            split="valid",
            task="t",
            in_seen_room=seen,
            turn=0,
            is_furniture=furniture,
            name="desk 1",
            other_name="desk 3",
            before="go to desk 1",
            after="",
            outcome=outcome,
        )
        for outcome in outcomes
    ]


def test_a_greedy_policy_takes_the_likeliest_ids() -> None:
    model = make_model(3).float()
    policy = GreedyPolicy(model)
    ids = [0, 70, 80, 90]

    def answer(most: int, ends: Sequence[int]) -> tuple[tuple[int, ...], FinishReason]:
        completion = asyncio.run(
            policy.complete(ids, max_tokens=most, temperature=0.0, stop_token_ids=ends, seed=None)
        )
        return completion.token_ids, completion.finish_reason

    by_hand: list[int] = []
    for _ in range(4):
        with torch.no_grad():
            logits_BTV = model(torch.tensor([[*ids, *by_hand]])).logits
        by_hand.append(int(logits_BTV[0, -1].argmax()))
    never = next(i for i in range(300) if i not in by_hand)
    assert answer(4, [never]) == (tuple(by_hand), FinishReason.LENGTH)
    end = by_hand.index(by_hand[2]) + 1
    assert answer(4, [never, by_hand[2]]) == (tuple(by_hand[:end]), FinishReason.STOP)


def test_shares_by_kind_and_by_room() -> None:
    """Furniture: 3 in seen rooms, 1 in an unseen one. Things: one in an unseen room."""
    some = [
        *asked(["follows", "keeps", "keeps"]),
        *asked(["follows"], seen=False),
        *asked(["other"], furniture=False, seen=False),
    ]
    rows = rows_of_reading(some)
    assert [(row.what, row.rooms, row.n, *row.counts.values()) for row in rows] == [
        ("furniture", "seen", 3, 1, 2, 0),
        ("furniture", "unseen", 1, 1, 0, 0),
        ("furniture", "all", 4, 2, 2, 0),
        ("things", "unseen", 1, 0, 0, 1),
    ]
    record = rows[2].record()
    assert record["keeps"] == {"share": 0.5, "interval": wilson_interval(2, 4)}


def test_a_policy_is_asked_again_in_each_game(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = save_policy(tmp_path / "policy", seed=3)
    rows = bench_reading(config(tmp_path), str(policy), tmp_path / "reading.json")
    # Two of the three games are in a room that no training game is in.
    assert [(row.what, row.rooms, row.n) for row in rows] == [
        ("furniture", "seen", 1),
        ("furniture", "unseen", 2),
        ("furniture", "all", 3),
    ]
    assert "furniture   unseen" in capsys.readouterr().out
    record = json.loads((tmp_path / "reading.json").read_text())
    assert [row["n"] for row in record["rows"]] == [1, 2, 3]
    assert {one["task"] for one in record["asked"]} == {"valid-0", "valid-1", "valid-2"}
    assert {one["other_name"] for one in record["asked"]} == {"desk 3"}


def test_without_a_reader_nothing_can_be_asked(tmp_path: Path) -> None:
    policy = save_policy(tmp_path / "policy", seed=3)
    with pytest.raises(ConfigError, match=r"env.id guess-the-number: no command .* `object_named`"):
        bench_reading(config(tmp_path, "guess-the-number"), str(policy), None)


def test_a_player_without_a_model_is_refused(command_line: CommandLine) -> None:
    ended = command_line("bench", "reading", "expert")
    assert ended.status == 2
    assert "expert: a player without a model reads nothing; name a policy" in ended.err
