"""Real TextArena games."""

import random
import subprocess
import sys
from typing import Any

import pytest

from envs import check_env, make_env

pytest.importorskip("textarena", reason="an optional extra")


@pytest.mark.parametrize(
    "game",
    [
        "GuessTheNumber-v0",
        "2048-v0-ultra-easy",
        "FrozenLake-v0-random",
        "Blackjack-v0",
        "TowerOfHanoi-v0",
    ],
)
def test_they_keep_the_contract(game: str) -> None:
    check_env(lambda: make_env("textarena", game=game))


def test_a_game_without_listed_commands_keeps_the_contract() -> None:
    check_env(lambda: make_env("textarena", game="Mastermind-v0"), steps=8)


def test_a_turn_shows_the_new_messages() -> None:
    env = make_env("textarena", game="GuessTheNumber-v0")
    task = env.tasks("train")[0]
    text, info = env.reset(seed=task.seed, options={"task": task})
    assert "You have to guess the number between 1 and 20" in text
    assert info["admissible_commands"] == [f"[{n}]" for n in range(1, 21)]
    results = {}
    for number in range(1, 21):
        twin = env.clone()
        results[number] = twin.step(str(number) if number % 2 else f"I say [{number}].")
    won = [number for number, result in results.items() if result[4]["success"]]
    assert len(won) == 1
    for number, (text, reward, terminated, truncated, _) in results.items():
        if number == won[0]:
            assert text == "Congratulations! You guessed the correct number."
            assert (reward, terminated, truncated) == (1.0, True, False)
        else:
            assert text == f"The target number is {'lower' if number > won[0] else 'higher'}."
            assert (reward, terminated, truncated) == (0.0, False, False)


def test_invalid_moves_do_not_end_the_game() -> None:
    env = make_env("textarena")
    task = env.tasks("train")[0]
    env.reset(seed=task.seed, options={"task": task})
    for _ in range(5):
        text, _, terminated, truncated, _ = env.step("hello")
        assert text.startswith("You attempted an invalid move.")
        assert not terminated
        assert not truncated


def test_the_global_generator_stays_the_callers() -> None:
    random.seed(7)
    wanted = [random.random() for _ in range(3)]
    random.seed(7)
    env = make_env("textarena", game="2048-v0")
    task = env.tasks("train")[0]
    got = [random.random()]
    env.reset(seed=task.seed, options={"task": task})
    got.append(random.random())
    env.step("[up]")
    got.append(random.random())
    assert got == wanted


def test_own_commands_and_rewards() -> None:
    env = make_env("textarena", game="GuessTheNumber-v0", commands=["[1]"], success_reward=0.0)
    task = env.tasks("valid")[0]
    _, info = env.reset(seed=task.seed, options={"task": task})
    assert info["admissible_commands"] == ["[1]"]
    for number in range(1, 21):
        *_, terminated, _, info = env.step(f"[{number}]")
        if terminated:
            break
    assert info["success"] is True, "the share for coming close is enough"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"game": "GuessNumber-v0"},
            "game: 'GuessNumber-v0' is not known; did you mean 'GuessTheNumber-v0'",
        ),
        ({"game": "Nim-v0"}, "game: 'Nim-v0' cannot be played here: it is for several players"),
        ({"game": "PublicGoodsGame-v0"}, "game: 'PublicGoodsGame-v0' is for several players"),
        ({"commands": [1]}, "commands: 1 is not a text; write it in quotes"),
        ({"expert": True}, "textarena has no expert"),
    ],
)
def test_a_game_that_cannot_be_played_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env("textarena", **options)


def test_a_game_that_needs_a_language_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    with pytest.raises(
        ValueError,
        match="game: 'TwentyQuestions-v0' cannot be played here: it asks a language model",
    ):
        make_env("textarena", game="TwentyQuestions-v0")


@pytest.mark.process
def test_missing_words_are_named_and_nothing_is_printed() -> None:
    """In a second process, in which nltk finds no words."""
    code = (
        "import nltk; nltk.data.path.clear(); nltk.download = lambda *a, **k: print('loading')\n"
        "from envs import make_env\n"
        "try: make_env('textarena', game='Hangman-v0')\n"
        "except ValueError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.startswith(
        "env.options: game: 'Hangman-v0' needs lists of words that nltk downloads; with"
    )
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


@pytest.mark.process
def test_without_the_package_the_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['textarena'] = None\n"
        "from envs import make_env\n"
        "try: make_env('textarena')\n"
        "except ValueError as error: print(error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.startswith(
        "env.id: textarena needs the package textarena, an extra of this one: `pip install "
    )
