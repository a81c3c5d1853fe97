"""Episodes whose prompts forget some of the past: each part is what the policy saw."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from envs import Task
from rollouts import EpisodeSettings, PromptSettings, StopReason, Trajectory
from rollouts.episode import run_episode
from rollouts.renderer import make_renderer
from rollouts.rendering.histories import Exchange, make_history
from tests.builders.models import CHATML, make_tokenizer
from tests.builders.number_env import NumberEnv
from tests.builders.scripted import ScriptedPolicy

TASK = Task(
    env_id="tests.builders.number_env:NumberEnv", split="train", family="odd", id="number-7"
)
SETTINGS = EpisodeSettings(max_turns=9, max_action_tokens=16, reward_scale=10.0)


def play(settings: PromptSettings, *said: str) -> tuple[Trajectory, ScriptedPolicy]:
    """An episode of a policy that says these texts, and what it was asked."""
    chat = settings.format == "chat"
    renderer = make_renderer(make_tokenizer(chat_template=CHATML if chat else None), settings)
    policy = ScriptedPolicy(renderer, list(said))
    coroutine = run_episode(
        NumberEnv(),
        TASK,
        policy,
        renderer,
        SETTINGS,
        context_length=1024,
        temperature=1.0,
        seed=11,
        history=make_history(settings),
    )
    return asyncio.run(coroutine), policy


def counted(turns: Sequence[Exchange]) -> str:
    return f"Turns so far: {len(turns)}."


def failing(turns: Sequence[Exchange]) -> str:
    raise KeyError("desk")


@pytest.mark.parametrize(
    "prompt",
    [
        {"history": "window", "window": 1},
        {"history": "observations"},
        {"history": "summary", "window": 2},
        {"history": f"{__name__}:counted", "window": 0},
        {"format": "chat", "history": "window", "window": 0, "show_admissible_commands": True},
    ],
)
def test_each_part_is_exactly_what_the_policy_saw(prompt: dict[str, Any]) -> None:
    # With summaries, the third and the sixth text are not sent to the environment.
    said = ["think", "guess 5", "think", "think", "guess 6", "think", "guess 7"]
    episode, policy = play(PromptSettings.model_validate(prompt), *said)
    assert episode.success
    seen = []
    for part in episode.parts:
        ids: tuple[int, ...] = ()
        for turn in part.turns:
            ids += turn.prompt_token_ids
            seen.append(ids)
            ids += turn.completion.token_ids
        assert part.token_ids == ids
    assert seen == policy.prompts
    assert len(episode.parts) > 1
    assert len(set(policy.seeds)) == len(policy.prompts)


def test_the_policys_summary_is_a_turn_that_the_environment_does_not_see() -> None:
    settings = PromptSettings(history="summary", window=1, summary_request="Sum up.")
    episode, policy = play(settings, "guess 5", "it is above 5", "guess 7")
    assert [turn.reward for turn in episode.turns] == [0.0, 0.0, 10.0]
    assert [turn.new_prompt for turn in episode.turns] == [False, False, True]
    assert episode.invalid_actions == 0
    tokenizer = make_tokenizer()
    assert [tokenizer.decode(ids) for ids in policy.prompts] == [
        "<s>Guess my number.\n> ",
        "<s>Guess my number.\n> guess 5</s>\nHigher.\n\nSum up.\n> ",
        "<s>Guess my number.\n\nit is above 5\n\nHigher.\n> ",
    ]


def test_code_of_a_history_that_fails_ends_the_episode() -> None:
    episode, _ = play(PromptSettings(history=f"{__name__}:failing", window=0), "think")
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.ENV_ERROR, 1)
    assert episode.error == f"prompt.history {__name__}:failing raised KeyError: 'desk'"
