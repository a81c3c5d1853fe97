"""Games with permuted names: the same game underneath, read and commanded in the new names."""

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.engines.engine import Frame
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.permuted_names import PermutedNames, permuted_names, takable_kinds
from rollouts import EpisodeSettings
from rollouts.players import make_player
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from tests.builders.kitchen import ID, write_kitchen

KINDS = ("mug", "pan", "pencil")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    write_kitchen(tmp_path)
    return str(tmp_path)


def test_names_change_one_to_one_and_change_back() -> None:
    names = PermutedNames("any", KINDS, exchange_kinds=True)
    things = [f"{kind} {number}" for kind in KINDS for number in range(1, 5)]
    permuted = [names.text(thing) for thing in things]
    assert sorted(permuted) == sorted(things) != permuted
    assert [names.command(name) for name in permuted] == things
    kinds = {names.text(f"mug {number}").split()[0] for number in range(1, 5)}
    assert kinds == {names.text("mug")}
    assert PermutedNames("any", KINDS, exchange_kinds=True).text("mug 1") == names.text("mug 1"), (
        "drawn from the seed and nothing else"
    )
    many = [PermutedNames(str(seed), KINDS, exchange_kinds=True) for seed in range(200)]
    assert len({names.text("mug 1") for names in many}) == 12, "3 kinds of 4 numbers"


def test_where_kinds_stay_the_numbers_change() -> None:
    names = PermutedNames("any", KINDS, exchange_kinds=False)
    permuted = [names.text(f"mug {number}") for number in range(1, 5)]
    assert sorted(permuted) == ["mug 1", "mug 2", "mug 3", "mug 4"] != permuted
    assert names.text("a mug") == "a mug"
    (odd, even) = (permuted_names(ID, number).text("apple") for number in (1, 2))
    assert (odd != "apple", even) == (True, "apple")


def test_what_is_no_thing_stays_and_numbers_above_four_stay() -> None:
    names = PermutedNames("any", KINDS, exchange_kinds=True)
    text = "On the shelf 1, you see a desklamp 1, a panel 1, and nothing. Put two in drawer."
    assert names.text(text) == text
    kind, number = names.text("pencil 12").split()
    assert (kind, number) == (names.text("pencil"), "12")


def test_a_frame_has_the_new_names() -> None:
    names = PermutedNames("any", KINDS, exchange_kinds=True)
    frame = names.frame(
        Frame(
            text="a mug 1.", commands=["take mug 1 from shelf 1"], won=True, reward=1.0, done=True
        )
    )
    new = names.text("mug 1")
    assert frame == Frame(
        text=f"a {new}.", commands=[f"take {new} from shelf 1"], won=True, reward=1.0, done=True
    )


def test_furniture_and_lamps_keep_their_names() -> None:
    kinds = takable_kinds()
    assert {"mug", "book", "bowl", "plate"} <= kinds
    assert not kinds & {"desklamp", "floorlamp", "fridge", "sinkbasin", "drawer", "bed"}


def test_training_games_appear_once_more_for_each_permutation(data: str) -> None:
    env = AlfworldEnv(data=data, entity_permutations=2)
    assert [task.id for task in env.tasks("train")] == [ID, f"{ID}~1", f"{ID}~2"]
    assert len({(task.family, task.scene, task.difficulty) for task in env.tasks("train")}) == 1
    assert [task.id for task in AlfworldEnv(data=data).tasks("train")] == [ID]


@pytest.mark.parametrize(("number", "engine"), [(1, "native"), (2, "native"), (1, "textworld")])
def test_a_permuted_game_is_the_same_game(data: str, number: int, engine: str) -> None:
    """After any command the texts, commands and endings are the game's own, in the new names."""
    plain = AlfworldEnv(data=data)
    env = AlfworldEnv(data=data, entity_permutations=2, engine=engine)
    own, task = (env.tasks("train")[each] for each in (0, number))
    names, rng = permuted_names(task.id, number), random.Random(0)
    assert names.text("apple 1") != "apple 1", "else the test shows nothing"
    (text, info), (permuted, permuted_info) = (
        plain.reset(options={"task": own}),
        env.reset(options={"task": task}),
    )
    assert "apple" in text
    for _ in range(30):
        assert permuted == names.text(text)
        assert permuted_info["admissible_commands"] == [
            names.text(each) for each in info["admissible_commands"]
        ]
        command = rng.choice(info["admissible_commands"])
        text, *ending, info = plain.step(command)
        permuted, *permuted_ending, permuted_info = env.step(names.text(command))
        assert permuted_ending == ending
        if ending[1]:
            break
    env.close()


def test_the_searcher_wins_permuted_games(data: str) -> None:
    env = AlfworldEnv(data=data, entity_permutations=3, expert=True, expert_type="searcher")
    for task in env.tasks("train"):
        player = make_player("expert", env, task, seed=0)
        episode = asyncio.run(
            run_scripted_episode(env, task, player, byte_renderer(), EpisodeSettings(max_turns=40))
        )
        assert episode.success, task.id


def test_a_clone_continues_the_permuted_game(data: str) -> None:
    env = AlfworldEnv(data=data, entity_permutations=1)
    _, info = env.reset(options={"task": env.tasks("train")[1]})
    go = info["admissible_commands"][0]
    assert env.clone().step(go) == env.step(go)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"entity_permutations": -1},
            "entity_permutations: -1 is not a whole number of at least 0",
        ),
        ({"entity_permutations": True}, "entity_permutations: True is not a whole number"),
        (
            {"entity_permutations": 1, "expert": True},
            "^entity_permutations: 1, but the handcoded expert .*; set expert_type: searcher",
        ),
    ],
)
def test_bad_options_are_refused(data: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlfworldEnv(data=data, **options)


@pytest.mark.parametrize("ending", ["x", "-1", "1~2"])
def test_a_permutation_has_a_number(data: str, ending: str) -> None:
    env = AlfworldEnv(data=data, entity_permutations=2)
    task = replace(env.tasks("train")[0], id=f"{ID}~{ending}")
    with pytest.raises(
        ValueError,
        match=f"^task: '{ID}~{ending}': '{ending}' is not the number of a permutation; use",
    ):
        env.reset(options={"task": task})
