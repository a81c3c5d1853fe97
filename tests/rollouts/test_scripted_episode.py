import asyncio
import re

import pytest

from envs import Task
from rollouts import EpisodeSettings, PromptSettings, StopReason, Trajectory
from rollouts.mistakes import Mistakes
from rollouts.players import make_player
from rollouts.renderer import byte_renderer, make_renderer
from rollouts.rendering.histories import make_history
from rollouts.scripted_episode import NO_POLICY, run_scripted_episode
from tests.builders.models import make_tokenizer
from tests.builders.number_env import NumberEnv

TOKENIZER = make_tokenizer()
RENDERER = make_renderer(TOKENIZER, PromptSettings())
SETTINGS = EpisodeSettings(max_turns=30, max_action_tokens=16)


def play(
    number: int,
    noise: float,
    seed: int = 0,
    *,
    expert: bool = True,
    settings: EpisodeSettings = SETTINGS,
    context_length: int = 512,
) -> Trajectory:
    task = Task(
        env_id="tests.builders.number_env:NumberEnv",
        split="train",
        family="odd",
        id=f"number-{number}",
    )
    env = NumberEnv(expert=expert)
    return asyncio.run(
        run_scripted_episode(
            env,
            task,
            make_player("expert", env, task, seed),
            RENDERER,
            settings,
            mistakes=Mistakes(noise, seed=seed),
            context_length=context_length,
        )
    )


def test_the_expert_alone() -> None:
    episode = play(7, noise=0.0)
    assert [turn.action.command for turn in episode.turns] == ["guess 4", "guess 7"]
    assert episode.success
    assert (
        TOKENIZER.decode(episode.token_ids)
        == "<s>Guess my number.\n> guess 4</s>\nHigher.\n> guess 7</s>"
    )
    assert {turn.completion.policy_version for turn in episode.turns} == {NO_POLICY}
    assert set(episode.behavior_logprobs) == {0.0}


def test_a_window_of_the_expert_shows_mistakes_and_no_part_trains_them() -> None:
    settings = PromptSettings(history="window", window=1)
    task = Task(
        env_id="tests.builders.number_env:NumberEnv", split="train", family="f", id="number-7"
    )
    env = NumberEnv(expert=True)
    episode = asyncio.run(
        run_scripted_episode(
            env,
            task,
            make_player("expert", env, task, 0),
            RENDERER,
            SETTINGS,
            mistakes=Mistakes(0.6, seed=3),
            context_length=512,
            history=make_history(settings),
        )
    )
    assert episode.success
    assert len(episode.parts) > 1
    for part in episode.parts:
        text = TOKENIZER.decode(part.token_ids)
        assert text.startswith("<s>Guess my number.\n")
        assert text.endswith("</s>")
        trained = [i for i, bit in zip(part.token_ids, part.action_mask, strict=True) if bit]
        said = [turn.action.text for turn in part.turns]
        assert TOKENIZER.decode(trained) == "".join(f"{command}</s>" for command in said)
    shown = [TOKENIZER.decode(part.token_ids).count("> ") for part in episode.parts]
    # A new prompt shows one turn of the past and the action; a mistake after it may follow.
    assert min(shown) == 2
    commands = sum(len(turn.observation.split("> ")) for turn in episode.turns)
    assert commands > len(episode.turns), "there was a mistake"


def test_mistakes_are_shown_and_not_trained() -> None:
    mistakes = 0
    for seed in range(40):
        episode = play(7, noise=0.5, seed=seed)
        trained = [i for i, bit in zip(episode.token_ids, episode.action_mask, strict=True) if bit]
        assert TOKENIZER.decode(trained) == "".join(
            f"{turn.action.text}</s>" for turn in episode.turns
        )
        shown = TOKENIZER.decode(episode.token_ids)
        ends = shown.count("</s>")
        marked = [
            TOKENIZER.decode(turn.prompt_token_ids[first:end])
            for turn in episode.turns
            for first, end in turn.mistakes
        ]
        assert len(marked) == ends - len(episode.turns)
        for text in marked:
            assert re.fullmatch(r"(guess \d+|think)( 1)?</s>", text), text
        mistakes += len(marked)
        if not episode.success:
            # Won by a mistake: no turn holds the winning command.
            assert episode.stop_reason is (
                StopReason.TRUNCATED if episode.turns else StopReason.ENV_ERROR
            )
            continue
        assert shown.endswith("guess 7</s>")
        # The turns' texts say the same as the tokens.
        words = "\n".join(f"{turn.observation}\n> {turn.action.text}" for turn in episode.turns)
        assert shown.removeprefix("<s>").replace("</s>", "") == words
    assert mistakes > 20


def test_noise_is_repeatable() -> None:
    assert play(7, noise=0.5, seed=3).token_ids == play(7, noise=0.5, seed=3).token_ids
    assert len({play(7, noise=0.5, seed=seed).token_ids for seed in range(10)}) > 3


def test_an_episode_without_end_reaches_the_turn_limit() -> None:
    episode = play(7, noise=0.0, settings=EpisodeSettings(max_turns=1))
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.MAX_TURNS, 1)


def test_an_episode_in_which_the_player_never_acts_trains_nothing() -> None:
    episode = play(7, noise=1.0, settings=EpisodeSettings(max_turns=2))
    assert (episode.stop_reason, episode.turns) == (StopReason.ENV_ERROR, ())
    assert "before the player acted" in episode.error


def test_an_environment_without_expert_is_named() -> None:
    episode = play(7, noise=0.0, expert=False)
    assert (episode.stop_reason, episode.unplayable) == (StopReason.ENV_ERROR, True)
    assert "expert: true" in episode.error


def test_a_first_prompt_that_does_not_fit_is_left_out_with_its_reason() -> None:
    episode = play(7, noise=0.0, context_length=20)
    assert (episode.stop_reason, episode.unplayable) == (StopReason.CONTEXT_FULL, True)
    assert "serving.context_length" in episode.error


def test_an_action_that_is_too_long_is_named() -> None:
    with pytest.raises(ValueError, match="max_action_tokens is 1"):
        play(7, noise=0.0, settings=EpisodeSettings(max_action_tokens=1))


def test_without_a_model_tokens_are_bytes_and_limit_nothing() -> None:
    task = Task(
        env_id="tests.builders.number_env:NumberEnv", split="train", family="odd", id="number-7"
    )
    env = NumberEnv(expert=True)
    player = make_player("expert", env, task, 0)
    tight = EpisodeSettings(max_action_tokens=1)
    episode = asyncio.run(run_scripted_episode(env, task, player, byte_renderer(), tight))
    assert episode.success
    text = "Guess my number.\n> guess 4", "\nHigher.\n> guess 7"
    assert episode.token_ids == tuple(i for part in text for i in (*part.encode(), 256))
    said = [turn.completion.token_ids for turn in episode.turns]
    assert said == [(*b"guess 4", 256), (*b"guess 7", 256)]
