"""`agent-rl bench rollout`: medians and ratios by hand, and one run with real engines."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent_rl.commands.bench.rollout import (
    RolloutRow,
    default_config,
    groups_of,
    speed_table,
    time_table,
    with_places,
)
from agent_rl.commands.bench.rollout_figures import RolloutFigures
from agent_rl.commands.bench.turns import Replayed
from agent_rl.config import Config
from tests.builders.command_line import CommandLine
from tests.builders.models import save_policy
from tests.builders.number_env import NumberEnv

CONFIG = Config.model_validate({"run_folder": "r", "env": {"id": "guess-the-number"}})
FIGURES = RolloutFigures(
    episodes=4,
    tokens=100,
    seconds=1.0,
    engine=0.5,
    transport=0.1,
    environment=0.1,
    worker=0.1,
    waiting=0.2,
    tail=0.3,
    cache_hits=0.6,
)


def a_row() -> RolloutRow:
    """Three repeats: the rollout took 1, 2 and 4 s, and raw vLLM 1, 1 and 3 s."""
    rollouts = [replace(FIGURES, seconds=seconds) for seconds in (1.0, 2.0, 4.0)]
    raw = [
        Replayed(tokens=100, seconds=seconds, prompt_tokens=1000, cached_tokens=cached)
        for seconds, cached in ((1.0, 800), (1.0, 700), (3.0, 900))
    ]
    return RolloutRow(engines=1, places=2, rollouts=rollouts, references={"raw": raw})


def test_each_number_of_episodes_at_a_time_has_a_row() -> None:
    rows = [replace(a_row(), places=places) for places in (1, 2, 64)]
    for table in (speed_table(rows), time_table(rows)):
        assert list(table.columns[1].cells) == ["1", "2", "64"]


def test_medians_and_ratios_by_hand() -> None:
    row = a_row()
    assert row.rollout_speed == 50.0
    assert row.speed("raw") == 100.0
    # 100 / 100, 50 / 100 and 25 / 33.3: each repeat is compared with itself.
    assert row.ratio("raw") == pytest.approx(0.75)
    assert row.raw_cache_hits == pytest.approx(0.8)
    assert row.median("busy") == pytest.approx(0.8)
    record = row.record()
    assert record["tokens_per_second"] == {"rollout": 50.0, "raw": 100.0}
    assert record["of"] == {"raw": pytest.approx(0.75)}
    assert [cells[0] for cells in (list(c.cells) for c in speed_table([row]).columns)] == [
        *("1", "2", "4", "2.00", "50", "100", "0.75")
    ]
    assert [cells[0] for cells in (list(c.cells) for c in time_table([row]).columns)] == [
        *("1", "2", "80.0", "60.0", "50.0", "10.0", "10.0", "20.0", "30.0", "60.0", "80.0")
    ]


@pytest.mark.parametrize(("places", "count", "each"), [(1, 1, 1), (2, 2, 1), (7, 1, 7), (8, 2, 4)])
def test_the_places_are_those_that_were_asked_for(places: int, count: int, each: int) -> None:
    workers = with_places(CONFIG, places, 1).workers
    assert (workers.count, workers.envs_per_worker) == (count, each)


def test_groups_cover_the_episodes() -> None:
    tasks = NumberEnv().tasks("train")
    chosen, size = groups_of(tasks, 64, 8)
    assert (len(set(chosen)), size) == (8, 8)
    chosen, size = groups_of(tasks, 4, 8)
    assert (len(chosen), size) == (1, 4)
    # Twelve groups of ten tasks: two tasks come again.
    chosen, size = groups_of(tasks, 96, 8)
    assert (len(chosen), len(set(chosen)), size) == (12, 10, 8)


def test_without_a_config_another_world_can_be_named(tmp_path: Path) -> None:
    assert default_config(tmp_path).env.options["data"] == "generated"
    other = default_config(tmp_path, ["env.id=taxi", "episode.max_turns=3"])
    assert (other.env.id, other.env.options) == ("taxi", {})
    assert (other.episode.max_turns, other.episode.max_action_tokens) == (3, 12)


@pytest.mark.parametrize("wrong", ["", "0", "2,", "1,two"])
def test_wrong_counts_are_named(wrong: str, command_line: CommandLine) -> None:
    ended = command_line("bench", "rollout", "--concurrency", wrong)
    assert ended.status == 2
    assert f"--concurrency '{wrong}': write whole numbers from 1 on" in ended.err


@pytest.mark.slow
@pytest.mark.engine
def test_all_ways_sample_as_many_tokens(tmp_path: Path, command_line: CommandLine) -> None:
    (tmp_path / "c.yaml").write_text(f"""
run_folder: {tmp_path / "run"}
model: {{path: {save_policy(tmp_path / "policy", 0)}}}
env: {{id: "tests.builders.number_env:NumberEnv"}}
episode: {{max_turns: 3, max_action_tokens: 5}}
serving: {{kv_cache_gib: 0.1, max_concurrent: 4}}
train: {{num_generations: 2}}
""")
    few = ("--concurrency", "2", "--rounds", "2", "--repeats", "1", "--generate-seconds", "0.1")
    ended = command_line(
        "bench", "rollout", tmp_path / "c.yaml", *few, "--json", tmp_path / "b.json"
    )
    assert ended.status == 0, ended.err
    record = json.loads((tmp_path / "b.json").read_text())
    (row,) = record["rows"]
    (rollout,) = row["rollouts"]
    assert (row["places"], rollout["episodes"]) == (2, 4)
    assert rollout["tokens"] > 0
    assert 0 <= rollout["cache_hits"] < 1
    # The pool calls back as episodes end, so no other share is larger than the whole.
    assert rollout["worker"] > -0.05
    for way in ("raw", "lock_step"):
        (replayed,) = row["references"][way]
        assert replayed["tokens"] == rollout["tokens"]
        # The prompts are shorter than a block of the cache, so its share may be 0.
        assert 0 <= replayed["cached_tokens"] < replayed["prompt_tokens"]
    (sampled,) = row["references"]["generate"]
    assert 0 < sampled["tokens"] <= rollout["tokens"]
    assert 0 < sampled["share"] <= 1
    for title in ("Sampled tokens a second", "shares of the places' time"):
        assert title in ended.out
