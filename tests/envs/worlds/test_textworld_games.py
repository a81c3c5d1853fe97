"""Real TextWorld games, made by the package's own compiler."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from envs import TextEnv, check_env, make_env
from envs.worlds.textworld_games import plain_text

pytestmark = [
    pytest.mark.process,
    pytest.mark.filterwarnings("ignore:Unable to find valid actions in an unsupported game"),
]


def begin(env: TextEnv, split: str = "train") -> tuple[str, dict[str, Any]]:
    task = env.tasks(split)[0]
    return env.reset(seed=task.seed, options={"task": task})


@pytest.mark.parametrize("expert", [False, True])
def test_it_keeps_the_contract(games: Path, expert: bool) -> None:
    check_env(lambda: make_env("textworld", data=str(games), expert=expert))


def test_the_expert_wins_along_the_walkthrough(games: Path) -> None:
    env = make_env("textworld", data=str(games), expert=True)
    for task in [*env.tasks("train"), *env.tasks("valid")]:
        text, info = env.reset(seed=task.seed, options={"task": task})
        assert "$" not in text
        assert "-= " in text
        total = 0.0
        for _ in range(task.difficulty):
            assert info["expert_command"] in info["admissible_commands"]
            text, reward, terminated, _, info = env.step(info["expert_command"])
            total += reward
        assert (total, terminated, info["success"]) == (1.0, True, True)
        assert "*** The End ***" in text
        assert "RESTART" not in text
        assert task.family == "tw-treasure_hunter"


def test_commands_to_the_interpreter_do_nothing(games: Path) -> None:
    env = make_env("textworld", data=str(games))
    _, info = begin(env)
    for command in (
        "quit",
        "Restart",
        "undo",
        "save game",
        "tw-print",
        "",
        "\\k:R",
        "look. quit",
        "look then quit",
        "\x1b[",
    ):
        assert env.step(command) == ("Nothing happens.", 0.0, False, False, info)
    assert env.step("quite a thing\nlook")[0] == "That's not a verb I recognise."


def test_a_flat_folder_and_a_list_are_to_train_on(games: Path) -> None:
    flat = str(games / "train")
    listed = [str(path) for path in (games / "train").glob("*.z8")]
    for data in (flat, listed):
        env = make_env("textworld", data=data)
        assert [task.id for task in env.tasks("train")] == [
            "tw-treasure_hunter-00000",
            "tw-treasure_hunter-00001",
        ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "/nowhere"}, "data: '/nowhere' is not a folder"),
        ({"data": ["/nowhere/a.z8"]}, "/nowhere/a.z8: no such file"),
        ({"data": ["/nowhere/a.ulx"]}, "a.ulx: only games for the Z-machine"),
        ({"data": ["/nowhere/a.json"]}, "a .json alone has no texts"),
        ({"data": "/tmp", "games": {"train": 3}}, "games: only for data: generated"),
        ({"games": {"trian": 3}}, "games.trian: not known; did you mean 'train'"),
        (
            {"games": {"challenge": "tw-simpel"}},
            "games.challenge: 'tw-simpel' is not known; did you mean 'tw-simple'",
        ),
        ({"games": {"train": 0}}, "games.train: 0 is not a whole number from 1"),
        (
            {"games": {"seed": 2**31}},
            "games.seed: 2147483648 is not a whole number from 0 to 2147483647",
        ),
        ({"games": {"settings": 3}}, "games.settings: 3 is not a mapping"),
    ],
)
def test_what_cannot_be_played_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env("textworld", **options)


def test_a_game_without_its_description(games: Path, tmp_path: Path) -> None:
    game = next((games / "train").glob("*.z8"))
    shutil.copy(game, tmp_path)
    with pytest.raises(
        ValueError, match=r"json: no such file; a TextWorld game is a \.z8 with its \.json"
    ):
        make_env("textworld", data=str(tmp_path))
    (tmp_path / game.with_suffix(".json").name).write_text("{")
    with pytest.raises(ValueError, match="json: not the description of a TextWorld game"):
        make_env("textworld", data=str(tmp_path)).tasks("train")


def test_a_damaged_game_is_named(games: Path, tmp_path: Path) -> None:
    """The interpreter would end the process."""
    game = next((games / "train").glob("*.z8"))
    story = game.read_bytes()
    damaged = {
        "cut": (story[:100_000], "cut off, or another kind of file"),
        "empty": (b"", "cut off"),
        "flipped": (
            story[:5000] + bytes([story[5000] ^ 1]) + story[5001:],
            "its checksum is wrong",
        ),
        "undescribed": (story, "undescribed.json: not a usable TextWorld game .KeyError"),
    }
    for name, (contents, _) in damaged.items():
        (tmp_path / f"{name}.z8").write_bytes(contents)
        described = (
            '{"metadata": {}}' if name == "undescribed" else game.with_suffix(".json").read_text()
        )
        (tmp_path / f"{name}.json").write_text(described)
    env = make_env("textworld", data=str(tmp_path))
    for task in env.tasks("train"):
        with pytest.raises(ValueError, match=damaged[task.id][1]):
            env.reset(options={"task": task})


def test_texts_are_cleaned() -> None:
    assert plain_text(
        "\n\n  \\$$ |  $$\n\nGo!\n\n\n\n-= Attic =-\nDark. \n\n>      -= Attic =-0/1"
    ) == ("Go!\n\n-= Attic =-\nDark.")
    assert (
        plain_text("Won.\n\n  *** The End ***\n\nWould you like to RESTART, QUIT?")
        == "Won.\n\n*** The End ***"
    )
