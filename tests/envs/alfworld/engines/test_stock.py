"""The stock engine: its errors name the file, and it leaves the process as it was."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from envs.alfworld.data import game_path
from envs.alfworld.engines.engine import EXPERT_FACTS
from envs.alfworld.engines.stock import TextworldEngine, _looked_up
from envs.alfworld.env import AlfworldEnv
from tests.builders.kitchen import write_kitchen


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("inReceptacle", "inPocket", "Undeclared predicate"),
        ("(:init", "(", ""),
        ("(objectType", "(cleanable", ""),
    ],
)
def test_a_bad_problem_is_an_error_that_names_the_file(
    data: str, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    env = AlfworldEnv(data=data)
    task = env.tasks("train")[0]
    game = json.loads(game_path(env.folder, task.split, task.id).read_text())
    game["pddl_problem"] = game["pddl_problem"].replace(old, new)
    path = tmp_path / "train" / task.id / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(game))
    argv, stdout = list(sys.argv), sys.stdout
    with pytest.raises(ValueError, match=f"not a usable ALFWorld game .*{reason}") as error:
        AlfworldEnv(data=str(tmp_path), engine="textworld").reset(options={"task": task})
    assert str(path) in str(error.value)
    assert (sys.argv, sys.stdout) == (argv, stdout)
    with pytest.raises(ValueError, match=r"set env\.options\.engine: textworld") as error:
        AlfworldEnv(data=str(tmp_path)).reset(options={"task": task})
    assert str(path) in str(error.value)


def test_closed_engines_are_used_again(tmp_path: Path) -> None:
    path = write_kitchen(tmp_path)
    first = TextworldEngine(facts=True)
    frame = first.reset(path)
    inner = first._engine
    first.close()
    second = TextworldEngine(facts=True)
    assert second.reset(path) == frame
    assert second._engine is inner
    assert {fact.split()[0] for fact in frame.facts} <= set(EXPERT_FACTS)
    second.close()


def test_it_plays_no_varied_games(tmp_path: Path) -> None:
    path = write_kitchen(tmp_path)
    with pytest.raises(ValueError, match="plays no varied games; use engine: native"):
        TextworldEngine().reset(path, lambda problem: problem)


@pytest.mark.parametrize("sentence", ["-= Welcome", "You arrive at"])
def test_a_grammar_runs_no_python(tmp_path: Path, sentence: str) -> None:
    path, mark = write_kitchen(tmp_path / "games"), tmp_path / "mark"
    game = json.loads(path.read_text())
    assert sentence in game["grammar"]
    program = f"{{__import__('pathlib').Path('{mark}').touch()}}"
    game["grammar"] = game["grammar"].replace(sentence, f"{program} {sentence}")
    path.write_text(json.dumps(game))
    engine = TextworldEngine()

    def play() -> None:
        frame = engine.reset(path)
        engine.step(next(command for command in frame.commands if command.startswith("go to")))

    with pytest.raises((ValueError, RuntimeError), match="an expression that is not run"):
        play()
    assert not mark.exists()
    engine.close()


def test_a_grammar_names_things() -> None:
    thing = SimpleNamespace(name="", id="mug 1")
    assert _looked_up("o.name or o.id", {"o": thing}) == "mug 1"
    assert _looked_up(" o.id ", {"o": thing}) == "mug 1"
    assert _looked_up("o", {"o": thing}) is thing
    assert _looked_up("'a' + ' ' + o.id ", {"o": thing}) == "a mug 1"
    for program in ("p", "o.__class__", "o.id.upper()", "1", "", "o + o", "o.id * 9", "(" * 9999):
        with pytest.raises(RuntimeError, match="an expression that is not run"):
            _looked_up(program, {"o": thing})
