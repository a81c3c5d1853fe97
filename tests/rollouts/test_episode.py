import asyncio
import json
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from envs import Task
from rollouts import (
    Completion,
    EpisodeSettings,
    FinishReason,
    PromptSettings,
    StopReason,
    Trajectory,
)
from rollouts.episode import run_episode
from rollouts.renderer import make_renderer
from tests.builders.models import make_tokenizer
from tests.builders.number_env import NumberEnv
from tests.builders.scripted import ScriptedPolicy

TOKENIZER = make_tokenizer()
RENDERER = make_renderer(TOKENIZER, PromptSettings())
TASK = Task(
    env_id="tests.builders.number_env:NumberEnv", split="train", family="odd", id="number-7"
)
SETTINGS = EpisodeSettings(
    max_turns=4, max_action_tokens=16, reward_scale=10.0, invalid_action_penalty=0.25
)


def play(
    *actions: str | Exception | float,
    settings: EpisodeSettings = SETTINGS,
    context_length: int = 512,
    task: Task = TASK,
    env: NumberEnv | None = None,
) -> Trajectory:
    policy = ScriptedPolicy(RENDERER, list(actions))
    return asyncio.run(
        run_episode(
            env or NumberEnv(),
            task,
            policy,
            RENDERER,
            settings,
            context_length=context_length,
            temperature=1.0,
        )
    )


def test_a_won_episode() -> None:
    episode = play("guess 5", "guess 7")
    assert (episode.stop_reason, episode.success, episode.final_observation) == (
        StopReason.SUCCESS,
        True,
        "Right!",
    )
    assert [turn.observation for turn in episode.turns] == ["Guess my number.", "Higher."]
    assert [turn.reward for turn in episode.turns] == [0.0, 10.0]
    assert episode.invalid_actions == 0
    assert (
        TOKENIZER.decode(episode.token_ids)
        == "<s>Guess my number.\n> guess 5</s>\nHigher.\n> guess 7</s>"
    )
    trained = [i for i, bit in zip(episode.token_ids, episode.action_mask, strict=True) if bit]
    assert TOKENIZER.decode(trained) == "guess 5</s>guess 7</s>"
    assert [x == -0.5 for x in episode.behavior_logprobs] == list(episode.action_mask)


def test_the_policy_sees_exactly_what_is_trained_on() -> None:
    policy = ScriptedPolicy(RENDERER, ["guess 5", "look", "guess 7"])
    coroutine = run_episode(
        NumberEnv(), TASK, policy, RENDERER, SETTINGS, context_length=512, temperature=1.0, seed=11
    )
    episode = asyncio.run(coroutine)
    for prompt, turn in zip(policy.prompts, episode.turns, strict=True):
        end = len(prompt) + len(turn.completion.token_ids)
        assert episode.token_ids[:end] == prompt + turn.completion.token_ids
    assert len(set(policy.seeds)) == 3
    assert None not in policy.seeds


def test_unparsable_and_inadmissible_actions_cost_and_are_answered() -> None:
    episode = play("look", "guess 1\nguess 7", "guess 7")
    assert [turn.action.command for turn in episode.turns] == ["look", None, "guess 7"]
    assert [turn.admissible for turn in episode.turns] == [False, False, True]
    assert [turn.reward for turn in episode.turns] == [-0.25, -0.25, 10.0]
    assert episode.turns[1].observation == episode.turns[2].observation == "Nothing happens."
    assert (episode.episode_return, episode.invalid_actions) == (9.5, 2)


def test_an_environment_that_lists_no_commands_takes_all() -> None:
    episode = play("look", "guess 7", env=NumberEnv(list_commands=False))
    assert [turn.admissible for turn in episode.turns] == [True, True]


def test_a_cut_action_is_invalid_and_its_end_is_not_trained() -> None:
    episode = play("think", "guess 7" * 9, "guess 7", settings=SETTINGS)
    cut, after = episode.turns[1:]
    # "guess 7" is its beginning, and would have won.
    assert (cut.action.text[:7], cut.reward) == ("guess 7", -0.25)
    assert cut.completion.finish_reason is FinishReason.LENGTH
    assert (cut.action.command, cut.admissible, len(cut.completion.token_ids)) == (None, False, 16)
    assert after.prompt_token_ids[0] == RENDERER.end_token_ids[0]
    assert episode.token_ids.count(RENDERER.end_token_ids[0]) == 3
    assert episode.success


@pytest.mark.parametrize(
    ("actions", "reason", "turns"),
    [
        (["think"] * 4, StopReason.MAX_TURNS, 4),
        (["think", "give up"], StopReason.FAILURE, 2),
        (["interrupt"], StopReason.TRUNCATED, 1),
        (["think", "crash"], StopReason.ENV_ERROR, 1),
        (["think", RuntimeError("engine gone")], StopReason.POLICY_ERROR, 1),
    ],
)
def test_stop_reasons(
    actions: list[str | Exception | float], reason: StopReason, turns: int
) -> None:
    episode = play(*actions)
    assert (episode.stop_reason, len(episode.turns)) == (reason, turns)
    assert bool(episode.error) == (reason in (StopReason.ENV_ERROR, StopReason.POLICY_ERROR))


def test_errors_say_what_happened() -> None:
    assert play("crash").error == "step 'crash': RuntimeError: the world broke"
    assert play(RuntimeError("engine gone")).error == "RuntimeError: engine gone"
    crashed = play(task=replace(TASK, id="crash"))
    assert (crashed.stop_reason, crashed.error) == (
        StopReason.ENV_ERROR,
        "reset of task 'crash': OSError: no such world",
    )


def test_what_no_text_environment_returns_ends_the_episode() -> None:
    class Confused(NumberEnv):
        def reset(self, **settings: Any) -> Any:
            observation, info = super().reset(**settings)
            return (None, info) if self._number == 8 else (observation, info)

        def step(self, action: str) -> Any:
            return (42, *super().step(action)[1:]) if action == "guess 4" else super().step(action)

    episode = play("guess 5", "guess 4", env=Confused())
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.ENV_ERROR, 1)
    assert (
        episode.error
        == "step 'guess 4' returned an int as observation; a TextEnv returns text: str"
    )
    assert episode.final_observation == "Higher."
    episode = play(env=Confused(), task=replace(TASK, id="number-8"))
    assert (
        episode.error
        == "reset of task 'number-8' returned None as observation; a TextEnv returns text: str"
    )


def test_a_text_that_has_no_bytes_ends_the_episode_and_not_the_run() -> None:
    class Halved(NumberEnv):
        """Cuts a text in the middle of a character."""

        def reset(self, **settings: Any) -> Any:
            observation, info = super().reset(**settings)
            return observation, {
                **info,
                "admissible_commands": ["\udc80"],
            } if self._number == 8 else info

        def step(self, action: str) -> Any:
            return (f"{action}\ud83d", *super().step(action)[1:])

    episode = play("guess 5", env=Halved())
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.ENV_ERROR, 0)
    assert (
        "step 'guess 5' returned as observation a text that cannot be written as UTF-8"
        in episode.error
    )
    episode = play(env=Halved(), task=replace(TASK, id="number-8"))
    assert episode.stop_reason is StopReason.ENV_ERROR
    assert (
        "reset of task 'number-8' returned as info['admissible_commands'] a text that cannot be "
        "written as UTF-8" in episode.error
    )


def test_time_of_its_own_ends_in_a_timeout_that_counts() -> None:
    class Slow(NumberEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
            time.sleep(0.1)
            return super().step(action)

    tight = EpisodeSettings(timeout_seconds=0.15)
    episode = play("think", "think", "think", env=Slow(), settings=tight)
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.TIMEOUT, 2)
    assert episode.trains, "left out, it would vanish from the mean of its group"
    won = play("think", "guess 7", env=Slow(), settings=tight)
    assert won.success, "an episode that is decided counts as decided"


def test_sampling_is_time_of_its_own_and_waiting_is_not() -> None:
    class Queueing(ScriptedPolicy):
        """Answers after 0.1 s; `worked` of them are work, and the rest is a wait in a queue."""

        worked = 0.0

        async def complete(self, *arguments: Any, **settings: Any) -> Completion:
            await asyncio.sleep(0.1)
            return replace(await super().complete(*arguments, **settings), seconds=self.worked)

    def ending(worked: float) -> StopReason:
        policy = Queueing(RENDERER, ["think"] * 4)
        policy.worked = worked
        tight = EpisodeSettings(max_turns=4, timeout_seconds=0.25)
        coroutine = run_episode(
            NumberEnv(), TASK, policy, RENDERER, tight, context_length=512, temperature=1.0
        )
        episode = asyncio.run(coroutine)
        assert episode.policy_seconds > 0.1
        return episode.stop_reason

    assert ending(0.09) is StopReason.TIMEOUT
    assert ending(0.0) is StopReason.MAX_TURNS


def test_an_engine_that_does_not_answer_fails() -> None:
    episode = play("think", 5.0, settings=EpisodeSettings(timeout_seconds=0.2))
    assert (episode.stop_reason, len(episode.turns)) == (StopReason.POLICY_ERROR, 1)
    assert "no answer within 0.2 s (episode.timeout_seconds)" in episode.error
    assert 0.1 < episode.policy_seconds < 2.0


def test_a_full_context_ends_the_episode_before_it_overflows() -> None:
    whole = play(*["think"] * 4)
    second = sum(len(t.prompt_token_ids) + len(t.completion.token_ids) for t in whole.turns[:2])
    fits = second + len(whole.turns[2].prompt_token_ids) + SETTINGS.max_action_tokens
    assert play("think", "think", "guess 7", context_length=fits).stop_reason is StopReason.SUCCESS
    full = play("think", "think", "guess 7", context_length=fits - 1)
    assert (full.stop_reason, len(full.turns)) == (StopReason.CONTEXT_FULL, 2)


def test_a_first_prompt_that_does_not_fit_is_left_out_with_its_reason() -> None:
    length = len(RENDERER.first("Guess my number.", None))
    episode = play("guess 7", context_length=length + 15)
    assert (episode.stop_reason, episode.trains) == (StopReason.CONTEXT_FULL, False)
    assert episode.unplayable
    assert re.search(
        rf"number-7.* {length} tokens.*holds {length + 15}.*context_length", episode.error
    )


@pytest.mark.parametrize(
    "error",
    [
        ValueError("math domain error"),
        json.JSONDecodeError("bad file", "{", 1),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError("no such file"),
        KeyError("goal"),
        SystemExit(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_reset_raises_is_recorded(error: BaseException) -> None:
    class Broken(NumberEnv):
        def reset(self, **settings: Any) -> Any:
            raise error

    episode = play(env=Broken())
    assert (episode.stop_reason, episode.trains) == (StopReason.ENV_ERROR, False)
    assert episode.unplayable
    assert episode.error == f"reset of task 'number-7': {type(error).__name__}: {error}"


def test_an_environment_may_run_a_loop_of_its_own() -> None:
    async def answer(text: str) -> str:
        await asyncio.sleep(0)
        return text

    class Asks(NumberEnv):
        def reset(self, **settings: Any) -> Any:
            said, info = super().reset(**settings)
            return asyncio.run(answer(said)), info

        def step(self, action: str) -> Any:
            said, *rest = super().step(action)
            return asyncio.run(answer(said)), *rest

    assert play("guess 5", "guess 7", env=Asks()).success


def test_episodes_take_turns() -> None:
    order: list[str] = []

    class Noting(NumberEnv):
        def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, object]]:
            order.append(f"{self._number}")
            return super().step(action)

    async def both() -> None:
        tasks = [replace(TASK, id=f"number-{n}") for n in (1, 2)]
        policies = [ScriptedPolicy(RENDERER, ["think", "think", "give up"]) for _ in tasks]
        await asyncio.gather(
            *(
                run_episode(
                    Noting(), task, policy, RENDERER, SETTINGS, context_length=512, temperature=1.0
                )
                for task, policy in zip(tasks, policies, strict=True)
            )
        )

    asyncio.run(both())
    assert order == ["1", "2"] * 3


def test_the_expert_advises_in_each_turn_if_the_environment_has_it() -> None:
    """The number is 7 of 0 to 9. The expert halves: 4 of 0 to 9, 7 of 6 to 9, 7 of 6 to 8."""
    advised = play("guess 5", "guess 9", "guess 7", env=NumberEnv(expert=True))
    assert [turn.advice for turn in advised.turns] == ["guess 4", "guess 7", "guess 7"]
    alone = play("guess 5", "guess 9", "guess 7")
    assert [turn.advice for turn in alone.turns] == [None, None, None]


def test_an_invalid_action_that_repeats_the_one_before_costs_more() -> None:
    """The penalties are 0.25 and 0.5. Each "look" is refused, and "think" is accepted."""
    settings = SETTINGS.model_copy(update={"max_turns": 6, "repeated_action_penalty": 0.5})
    said = ("look", "look", "look", "jump", "look", "think")
    episode = play(*said, settings=settings, env=NumberEnv(list_commands=True))
    assert [turn.reward for turn in episode.turns] == [-0.25, -0.75, -0.75, -0.25, -0.25, 0.0]
    assert episode.repeated_refusals == 2
    accepted = play("guess 5", "guess 5", settings=settings, env=NumberEnv(list_commands=True))
    assert [turn.reward for turn in accepted.turns[:2]] == [0.0, 0.0]


def test_an_action_that_shows_nothing_new_costs_a_penalty() -> None:
    """The number is 7. "guess 5" is answered by the same text each time, and "jump" as "look"."""
    settings = SETTINGS.model_copy(update={"max_turns": 6, "seen_observation_penalty": 0.5})
    said = ("guess 5", "guess 5", "look", "jump", "guess 5", "guess 7")
    episode = play(*said, settings=settings)
    assert [turn.reward for turn in episode.turns] == [0.0, -0.5, -0.25, -0.75, -0.5, 10.0]
