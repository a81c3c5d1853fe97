import asyncio
import random

import pytest
from models import make_tokenizer
from number_env import NumberEnv

from envs import Task
from rollouts import EpisodeSettings, PromptSettings, StopReason, Trajectory
from rollouts.expert_episode import EXPERT_VERSION, Mistakes, run_expert_episode
from rollouts.renderer import make_renderer

TOKENIZER = make_tokenizer()
RENDERER = make_renderer(TOKENIZER, PromptSettings())
SETTINGS = EpisodeSettings(max_turns=30, max_action_tokens=16)


def play(
    number: int, noise: float, seed: int = 0, *, expert: bool = True, settings: EpisodeSettings = SETTINGS
) -> Trajectory:
    task = Task(env_id="number_env:NumberEnv", split="train", family="odd", id=f"number-{number}")
    return asyncio.run(
        run_expert_episode(
            NumberEnv(expert=expert), task, RENDERER, settings, noise=noise, seed=seed, context_length=512
        )
    )


def test_the_expert_alone() -> None:
    episode = play(7, noise=0.0)
    assert [turn.action.command for turn in episode.turns] == ["guess 4", "guess 7"]
    assert episode.success
    assert TOKENIZER.decode(episode.token_ids) == "<s>Guess my number.\n> guess 4</s>\nHigher.\n> guess 7</s>"
    assert {turn.completion.policy_version for turn in episode.turns} == {EXPERT_VERSION}
    assert set(episode.behavior_logprobs) == {0.0}


def test_mistakes_are_shown_and_not_trained() -> None:
    mistakes = 0
    for seed in range(40):
        episode = play(7, noise=0.5, seed=seed)
        trained = [i for i, bit in zip(episode.token_ids, episode.action_mask, strict=True) if bit]
        assert TOKENIZER.decode(trained) == "".join(f"{turn.action.text}</s>" for turn in episode.turns)
        shown = TOKENIZER.decode(episode.token_ids)
        ends = shown.count("</s>")
        mistakes += ends - len(episode.turns)
        if not episode.success:
            # Won by a mistake: the winning command is nowhere.
            assert episode.stop_reason is (StopReason.TRUNCATED if episode.turns else StopReason.ENV_ERROR)
            continue
        assert shown.endswith("guess 7</s>")
        # What the turns say in words is what the tokens say.
        words = "\n".join(f"{turn.observation}\n> {turn.action.text}" for turn in episode.turns)
        assert shown.removeprefix("<s>").replace("</s>", "") == words
    assert mistakes > 20


def test_noise_is_repeatable() -> None:
    assert play(7, noise=0.5, seed=3).token_ids == play(7, noise=0.5, seed=3).token_ids
    assert len({play(7, noise=0.5, seed=seed).token_ids for seed in range(10)}) > 3


def test_an_episode_without_end_reaches_the_turn_limit() -> None:
    episode = play(7, noise=0.0, settings=EpisodeSettings(max_turns=1))
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.MAX_TURNS, 1)


def test_an_episode_in_which_the_expert_never_acts_trains_nothing() -> None:
    episode = play(7, noise=1.0, settings=EpisodeSettings(max_turns=2))
    assert (episode.stop_reason, episode.turns) == (StopReason.ENV_ERROR, ())
    assert "before the expert acted" in episode.error


def test_mistakes_are_never_what_the_expert_does() -> None:
    admissible = ["take book 1 from bed 1", "look", "go to desk 2"]
    made = [Mistakes(1.0, random.Random(seed)).next("look", admissible) for seed in range(200)]
    accepted = [command for command in made if command in admissible]
    assert set(accepted) == {"take book 1 from bed 1", "go to desk 2"}
    assert 70 < len(accepted) < 130
    # With a name of three (book 1, bed 1, desk 2) in one of three places.
    assert set(made) - set(accepted) == {
        "take bed 1 from bed 1",
        "take desk 2 from bed 1",
        "take book 1 from book 1",
        "take book 1 from desk 2",
        "go to book 1",
        "go to bed 1",
    }
    assert Mistakes(1.0, random.Random(0)).next("look", None) == "look 1"
    assert {Mistakes(0.0, random.Random(seed)).next("look", admissible) for seed in range(50)} == {None}


def test_what_was_offered_earlier_is_refused_now_and_then_again() -> None:
    repeated = 0
    for seed in range(100):
        mistakes = Mistakes(1.0, random.Random(seed))
        mistakes.next("go to desk 1", [])
        refused = mistakes.next("open desk 1", [])
        assert refused in {"go to desk 1", "go to desk 1 1", "open desk 1 1"}
        repeated += mistakes.next("open desk 1", []) == refused
    assert 40 < repeated < 100
    mistakes = Mistakes(1.0, random.Random(0))
    assert mistakes.next("look", []) == "look 1"
    assert mistakes.next("look 1", []) != "look 1", "what became right was done as a mistake"


def test_an_environment_without_expert_is_named() -> None:
    with pytest.raises(ValueError, match="expert: true"):
        play(7, noise=0.0, expert=False)


def test_an_action_that_is_too_long_is_named() -> None:
    with pytest.raises(ValueError, match="max_action_tokens is 1"):
        play(7, noise=0.0, settings=EpisodeSettings(max_action_tokens=1))
