"""A sample of the proof: both engines on generated games and on a kitchen with every quirk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.data import game_path, index_games, read_game, resolve_data_folder
from envs.alfworld.engines import rules as alfworld_rules
from envs.alfworld.engines.game import build_game, parse_game, parse_problem
from envs.alfworld.engines.game_file import SIGNATURES, Problem
from envs.alfworld.engines.rules import intro
from envs.alfworld.engines.state import State
from envs.alfworld.engines.stock import TextworldEngine
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from envs.alfworld.varied_rooms import VariedRoom
from envs.alfworld.verify import compare_engines
from tests.builders.kitchen import ID, write_kitchen

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", autouse=True)
def _cache_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_RL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def textworld() -> Iterator[TextworldEngine]:
    engine = TextworldEngine(facts=True)
    yield engine
    engine.close()


@pytest.fixture(scope="module", params=[False, True], ids=["generated", "published"])
def kitchen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kitchen with the domain and the grammar that alfworld generates games with, and with the
    published ones.
    """
    return write_kitchen(tmp_path_factory.mktemp("kitchen"), published=request.param)


@pytest.mark.parametrize(
    "seed", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_the_engines_agree_in_the_kitchen(
    kitchen: Path, textworld: TextworldEngine, seed: int
) -> None:
    compared = compare_engines(kitchen, ID, turns=60, seed=seed, textworld=textworld)
    assert compared.mismatches == ()
    assert compared.transitions > 60


def test_the_engines_agree_in_a_varied_room(tmp_path: Path, textworld: TextworldEngine) -> None:
    generate_games(tmp_path, GeneratorSettings(train=6, valid_seen=0, valid_unseen=0, seed=3))
    folder = resolve_data_folder(str(tmp_path))
    game = index_games(folder, "train")[0]
    path = game_path(folder, "train", game.id)
    vary = VariedRoom(seed="any", scene=game.scene, folder=folder, held_out=frozenset())
    varied = vary(parse_problem(path))
    assert varied.facts["receptacleatlocation"] != parse_problem(path).facts["receptacleatlocation"]
    path.write_text(json.dumps(rewritten(read_game(path), varied)))
    assert intro(State(parse_game(path))) == intro(State(build_game(varied)))
    compared = compare_engines(path, game.id, turns=20, seed=0, textworld=textworld)
    assert compared.mismatches == ()
    assert compared.wins >= 1, "the expert's walk should win"


def rewritten(data: dict[str, Any], problem: Problem) -> dict[str, Any]:
    """The contents of a game's file with the things, furniture and facts of another problem."""
    declared: dict[str, set[str]] = {"otype": {problem.goal.thing}}
    facts = []
    for predicate, rows in problem.facts.items():
        for row in rows:
            facts.append(f"({predicate} {' '.join(row)})")
            for kind, name in zip(SIGNATURES[predicate], row, strict=True):
                declared.setdefault(kind, set()).add(name)
    objects = [f"{' '.join(sorted(names))} - {kind}" for kind, names in declared.items()]
    goal = data["pddl_problem"].partition("(:goal")[2]
    text = (
        f"(define (problem varied) (:domain alfred) (:objects {' '.join(objects)}) "
        f"(:init {' '.join(facts)}) (:goal {goal}"
    )
    return {**data, "pddl_problem": text}


def test_the_engines_agree_in_generated_games(tmp_path: Path, textworld: TextworldEngine) -> None:
    generate_games(tmp_path, GeneratorSettings(train=6, valid_seen=0, valid_unseen=0, seed=3))
    folder = resolve_data_folder(str(tmp_path))
    compared = [
        compare_engines(
            game_path(folder, "train", game.id), game.id, turns=20, seed=0, textworld=textworld
        )
        for game in index_games(folder, "train")
    ]
    assert [c.mismatches for c in compared] == [()] * 6
    assert sum(c.transitions for c in compared) > 200
    assert sum(c.wins for c in compared) >= 5, "the expert's walks should win"


def test_a_wrong_rule_is_found_and_shown(
    kitchen: Path, textworld: TextworldEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alfworld_rules, "_joined", lambda words: " and ".join(words) or "nothing")
    compared = compare_engines(kitchen, ID, turns=10, seed=0, textworld=textworld)
    first = compared.mismatches[0]
    assert (first.game, first.walk, first.commands, first.part) == (ID, "random", (), "text")
    assert "a countertop 1 and a diningtable 2" in first.native
    assert "a countertop 1, a diningtable 2" in first.textworld
