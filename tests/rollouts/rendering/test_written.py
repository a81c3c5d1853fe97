import asyncio

import pytest

from envs import Task
from rollouts import EpisodeSettings, StopReason, Trajectory
from rollouts.players import make_player
from rollouts.renderer import byte_renderer
from rollouts.rendering.histories import Full, Window
from rollouts.rendering.written import WrittenTurn, written_episode
from rollouts.scripted_episode import run_scripted_episode
from tests.builders.number_env import NumberEnv

TASK = Task(env_id="e", split="train", family="f", id="t")


def said(observation: str, answer: str, *, trained: bool = True) -> WrittenTurn:
    return WrittenTurn(observation=observation, answer=answer, trained=trained)


def written(*turns: WrittenTurn, tokens: int = 1000, window: int | None = None) -> Trajectory:
    return written_episode(
        turns,
        TASK,
        byte_renderer(),
        Full() if window is None else Window(window),
        success=True,
        max_tokens=12,
        context_length=tokens,
    )


def test_the_experts_episode_written_down_has_the_experts_tokens() -> None:
    env = NumberEnv(expert=True)
    task = env.tasks("train")[0]
    played = asyncio.run(
        run_scripted_episode(
            env, task, make_player("expert", env, task, 0), byte_renderer(), EpisodeSettings()
        )
    )
    assert len(played.turns) > 1
    turns = [said(turn.observation, turn.action.text) for turn in played.turns]
    assert written(*turns).token_ids == played.token_ids
    assert written(*turns).action_mask == played.action_mask


def test_an_answer_that_is_not_learned_is_part_of_the_next_prompt() -> None:
    episode = written(
        said("a", "fly", trained=False), said("b", "go"), said("c", "x", trained=False)
    )
    (only,) = episode.turns
    assert bytes(i for i in only.prompt_token_ids if i < 256) == b"a\n> fly\nb\n> "
    assert only.prompt_token_ids.count(256) == 1  # the end of the answer
    assert only.action.command == "go"
    assert episode.success


def test_a_window_begins_new_prompts_as_it_does_in_play() -> None:
    episode = written(said("a", "1"), said("b", "2"), said("c", "3"), window=0)
    assert [turn.new_prompt for turn in episode.turns] == [False, True, True]
    assert len(episode.parts) == 3


def test_it_ends_where_the_context_is_full() -> None:
    episode = written(said("a", "go"), said("b" * 50, "go"), tokens=30)
    assert (len(episode.turns), episode.stop_reason) == (1, StopReason.CONTEXT_FULL)
    with pytest.raises(ValueError, match="no answer to learn fits into the context of 5 tokens"):
        written(said("a" * 50, "go"), tokens=5)
    with pytest.raises(ValueError, match="answer 1 takes 21 tokens with its end token"):
        written(said("a", "g" * 20))
