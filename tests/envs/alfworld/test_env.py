"""Both engines play generated games. Slow: textworld's import (2 s), each of its loads (0.1 s)."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gymnasium.error import ResetNeeded

from envs import Task, make_env
from envs.alfworld.data import game_path
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.names import FAMILIES


@pytest.fixture(scope="module")
def env(data: str) -> Iterator[AlfworldEnv]:
    env = AlfworldEnv(data=data)
    yield env
    env.close()


@pytest.fixture(scope="module")
def expert_env(data: str) -> Iterator[AlfworldEnv]:
    env = AlfworldEnv(data=data, expert=True)
    yield env
    env.close()


def walkthrough(env: AlfworldEnv, task: Task) -> list[str]:
    commands: list[str] = json.loads(game_path(env.folder, task.split, task.id).read_text())[
        "walkthrough"
    ]
    return commands


def test_walkthroughs_win_in_every_family_and_split(env: AlfworldEnv) -> None:
    played = []
    for task in [*env.tasks("train"), *env.tasks("valid_unseen")]:
        text, info = env.reset(options={"task": task})
        assert text.startswith(
            "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room."
        )
        assert "Your task is to: " in text
        *first, last = walkthrough(env, task)
        for command in first:
            assert command in info["admissible_commands"]
            text, reward, terminated, truncated, info = env.step(command)
            assert (reward, terminated, truncated, info["success"]) == (0.0, False, False, False), (
                task
            )
            assert env.observation_space.contains(text)
        _, reward, terminated, truncated, info = env.step(last)
        assert (reward, terminated, truncated, info["success"]) == (1.0, True, False, True), task
        played.append(task.family)
    assert {family: played.count(family) for family in FAMILIES} == dict.fromkeys(FAMILIES, 3)


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_texts_are_those_of_the_alfworld_package(data: str, engine: str) -> None:
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler

    env = AlfworldEnv(data=data, engine=engine)
    task = env.tasks("valid_seen")[0]
    text, info = env.reset(options={"task": task})
    infos = textworld.EnvInfos(admissible_commands=True)
    path = str(game_path(env.folder, task.split, task.id))
    stock = textworld.start(path, infos, wrappers=[AlfredDemangler(shuffle=False)])
    state: Any = stock.reset()
    for command in ["look", "dance", "help", *walkthrough(env, task)]:
        assert text == state.feedback.strip()
        assert info["admissible_commands"] == state.admissible_commands
        text, _, _, _, info = env.step(command)
        state, _, _ = stock.step(command)
    assert text == state.feedback.strip()


@pytest.mark.process
def test_both_engines_give_the_same_success_for_the_same_outputs(data: str) -> None:
    """Sensible outputs and others have the same rewards; the experts advise the same."""

    def outcomes(engine: str) -> list[tuple[float, bool, int]]:
        env, results = AlfworldEnv(data=data, engine=engine, expert=True), []
        for number, task in enumerate(env.tasks("valid_seen")):
            rng = random.Random(number)
            _, info = env.reset(seed=number, options={"task": task})
            turn = 0
            while turn < 30:
                turn += 1
                said = [info["expert_command"]] * 8 + [
                    "take it",
                    " look",
                    "",
                    rng.choice(info["admissible_commands"]),
                ]
                _, reward, terminated, _, info = env.step(rng.choice(said))
                if terminated:
                    break
            results.append((reward, info["success"], turn))
        env.close()
        return results

    native = outcomes("native")
    assert native == outcomes("textworld")
    assert any(success for _, success, _ in native)


def test_a_clone_goes_its_own_way(expert_env: AlfworldEnv) -> None:
    task = expert_env.tasks("train")[0]
    expert_env.reset(seed=1, options={"task": task})
    twin = expert_env.clone()
    alone = [expert_env.step(command) for command in walkthrough(expert_env, task)]
    assert alone[-1][2]
    assert [twin.step(command) for command in walkthrough(expert_env, task)] == alone
    stock = AlfworldEnv(data=str(expert_env.folder), engine="textworld")
    with pytest.raises(NotImplementedError, match="use engine: native"):
        stock.clone()


def test_reset_starts_again_with_or_without_loading(env: AlfworldEnv) -> None:
    task, other = env.tasks("train")[:2]
    first = env.reset(options={"task": task})
    env.step(walkthrough(env, task)[0])
    assert env.reset(seed=5, options={"task": task}) == first
    assert env.reset(options={"task": other}) != first
    assert env.reset(options={"task": task}) == first


def test_an_inadmissible_command_is_answered(env: AlfworldEnv) -> None:
    _, before = env.reset(options={"task": env.tasks("train")[0]})
    for command in (
        "fly to the moon",
        "",
        "LOOK",
        "look\nlook",
        "\N{SNOWMAN}",
        "take desk 1 from desk 1",
    ):
        text, reward, terminated, truncated, info = env.step(command)
        assert (text, reward, terminated, truncated) == ("Nothing happens.", 0.0, False, False)
        assert info == before
        assert "expert_command" not in info
    text, *_ = env.step("help")
    assert env.observation_space.contains(text)


def test_stepping_is_refused_outside_an_episode(data: str, env: AlfworldEnv) -> None:
    with pytest.raises(ResetNeeded):
        AlfworldEnv(data=data).step("look")
    task = env.tasks("train")[0]
    env.reset(options={"task": task})
    for command in walkthrough(env, task):
        env.step(command)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step("look")


def test_bad_tasks_are_refused(env: AlfworldEnv) -> None:
    task = env.tasks("train")[0]
    with pytest.raises(ValueError, match="reset needs options"):
        env.reset()
    with pytest.raises(ValueError, match="no game 'a/b'"):
        env.reset(
            options={"task": Task(env_id="alfworld", split="train", family=task.family, id="a/b")}
        )
    with pytest.raises(ValueError, match="of the environment 'maze'"):
        env.reset(
            options={"task": Task(env_id="maze", split="train", family=task.family, id=task.id)}
        )


def test_options_are_checked(data: str) -> None:
    with pytest.raises(ValueError, match=r"games\.trian: not known; did you mean 'train'"):
        make_env("alfworld", games={"trian": 3})
    with pytest.raises(ValueError, match="drop one of the two"):
        AlfworldEnv(data=data, games={"train": 3})
    with pytest.raises(ValueError, match="engine: 'fast' is none of native, textworld"):
        AlfworldEnv(data=data, engine="fast")


@pytest.mark.process
@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_importing_and_playing_leave_the_surroundings_alone(tmp_path: Path, engine: str) -> None:
    code = """
import os, random, sys
from envs import make_env
env = make_env("alfworld", games={"train": 1, "valid_seen": 0, "valid_unseen": 0}, engine="ENGINE")
(task,) = env.tasks("train")
assert not {"textworld", "alfworld", "torch"} & set(sys.modules)
env.reset(options={"task": task})
env.close()
env.reset(options={"task": task})
assert "ALFWORLD_DATA" not in os.environ
assert sys.argv == ["-c"], sys.argv
assert ("textworld" in sys.modules) == ("ENGINE" == "textworld")
""".replace("ENGINE", engine)
    surroundings = {key: value for key, value in os.environ.items() if key != "ALFWORLD_DATA"}
    surroundings |= {"HOME": str(tmp_path), "AGENT_RL_CACHE": str(tmp_path / "games")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in tmp_path.iterdir()] == ["games"]


def test_its_words_are_those_of_its_games() -> None:
    every = AlfworldEnv().words()
    assert {"saltshaker", "desklamp", "fridge"} <= {*every}
    games = {
        "families": ["pick_and_place_simple"],
        "scenes": [305],
        "object_types": ["Mug", "Book"],
        "receptacle_types": ["Desk", "Shelf"],
    }
    assert AlfworldEnv(games=games).words() == ["book", "desk", "mug", "shelf"]


def test_scenes_can_be_held_out_from_training(data: str) -> None:
    everything = AlfworldEnv(data=data).tasks("train")
    scene = everything[0].scene
    inside = [task.id for task in everything if task.scene == scene]
    env = AlfworldEnv(data=data, held_out_scenes=[int(scene)], entity_permutations=1)
    assert env.splits[-1] == "train_unseen_rooms"

    held_out = env.tasks("train_unseen_rooms")
    assert [task.id for task in held_out] == inside
    trained = {task.id.partition("~")[0] for task in env.tasks("train")}
    assert trained == {task.id for task in everything} - set(inside)
    assert len(env.tasks("train")) == 2 * len(trained)
    assert len(env.tasks("valid_seen")) == 6

    text, _ = env.reset(options={"task": held_out[0]})
    assert text == AlfworldEnv(data=data).reset(options={"task": everything[0]})[0]


def test_scenes_that_cannot_be_held_out(data: str) -> None:
    scenes = sorted({int(task.scene) for task in AlfworldEnv(data=data).tasks("train")})
    with pytest.raises(ValueError, match=r"no game of train is in scene 999; leave it out"):
        AlfworldEnv(data=data, held_out_scenes=[scenes[0], 999]).tasks("train")
    with pytest.raises(ValueError, match="no game of train is left; hold out fewer"):
        AlfworldEnv(data=data, held_out_scenes=scenes).tasks("train")
    with pytest.raises(ValueError, match="held_out_scenes: 'x' is not a whole number"):
        AlfworldEnv(data=data, held_out_scenes=["x"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="split: 'train_unseen_rooms' is none of"):
        AlfworldEnv(data=data).tasks("train_unseen_rooms")
