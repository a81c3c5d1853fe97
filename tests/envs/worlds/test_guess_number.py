"""Guess the number: the contract, the bisection, the end of a game, the options."""

from typing import Any

import pytest

from envs import check_env, make_env
from envs.worlds.guess_number import _bisection_guesses


@pytest.mark.parametrize("expert", [False, True])
def test_it_keeps_the_contract(expert: bool) -> None:
    check_env(lambda: make_env("guess-the-number", expert=expert, train=20, valid=10))


@pytest.mark.parametrize(
    ("number", "guesses"),
    [(4, 1), (2, 2), (6, 2), (1, 3), (3, 3), (5, 3), (7, 3)],
)
def test_a_bisection_of_seven_numbers(number: int, guesses: int) -> None:
    assert _bisection_guesses(number, 7) == guesses


def test_the_expert_wins_in_as_many_guesses_as_the_difficulty_says() -> None:
    env = make_env("guess-the-number", expert=True, train=20, valid=10)
    for task in [*env.tasks("train"), *env.tasks("valid")]:
        _, info = env.reset(seed=task.seed, options={"task": task})
        guesses = 0
        terminated = False
        while not terminated:
            _, _, terminated, _, info = env.step(info["expert_command"])
            guesses += 1
        assert info["success"]
        assert guesses == task.difficulty


def test_higher_and_lower_lead_to_the_number() -> None:
    env = make_env("guess-the-number", largest=3, guesses=3)
    last_guess = {"Higher.": "guess 3", "Lower.": "guess 1"}
    answers = set()
    for task in env.tasks("train"):
        text, info = env.reset(seed=task.seed, options={"task": task})
        assert text == (
            "Your task is to: guess my number. It is between 1 and 3. You have 3 guesses."
        )
        assert info["admissible_commands"] == ["guess 1", "guess 2", "guess 3"]
        text, reward, terminated, _, _ = env.step("guess 2")
        answers.add(text)
        if text in last_guess:
            assert (reward, terminated) == (0.0, False)
            text, reward, terminated, _, _ = env.step(last_guess[text])
        assert (text, reward, terminated) == ("Right!", 1.0, True)
    assert answers == {"Right!", "Higher.", "Lower."}


def test_the_last_wrong_guess_ends_the_game() -> None:
    env = make_env("guess-the-number", largest=3, guesses=1)
    task = env.tasks("train")[0]
    env.reset(seed=task.seed, options={"task": task})
    assert env.step("guess 4")[0] == "Nothing happens."
    wrong = [n for n in (1, 2, 3) if env.clone().step(f"guess {n}")[4]["success"] is False]
    text, reward, terminated, _, info = env.step(f"guess {wrong[0]}")
    assert text.startswith("Wrong. My number is ")
    assert (len(wrong), reward, terminated, info["success"]) == (2, 0.0, True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"largest": 1}, "largest: 1 is not a whole number from 2 to 1000"),
        ({"guesses": True}, "guesses: True is not a whole number"),
        ({"valid": -1}, "valid: -1 is not a whole number from 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env("guess-the-number", **options)
