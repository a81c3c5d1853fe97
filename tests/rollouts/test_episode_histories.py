"""Episodes whose prompts forget some of the past: each part is what the policy saw."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent_rl.learner.samples import samples_from_group
from envs import Task
from rollouts import EpisodeSettings, PromptSettings, StopReason, Trajectory
from rollouts.episode import run_episode
from rollouts.renderer import make_renderer
from rollouts.rendering.histories import Exchange, make_history
from tests.builders.chat_templates import DISTILL, HYBRID
from tests.builders.episodes import group
from tests.builders.models import CHATML, make_tokenizer
from tests.builders.number_env import NumberEnv
from tests.builders.scripted import ScriptedPolicy

TASK = Task(
    env_id="tests.builders.number_env:NumberEnv", split="train", family="odd", id="number-7"
)
SETTINGS = EpisodeSettings(max_turns=9, max_action_tokens=16, reward_scale=10.0)


def play(
    settings: PromptSettings,
    *said: str | tuple[int, ...],
    template: str = CHATML,
    limits: EpisodeSettings = SETTINGS,
) -> tuple[Trajectory, ScriptedPolicy]:
    """An episode of a policy that says these texts or ids, and what it was asked."""
    chat = settings.format == "chat"
    renderer = make_renderer(make_tokenizer(chat_template=template if chat else None), settings)
    policy = ScriptedPolicy(renderer, list(said))
    coroutine = run_episode(
        NumberEnv(),
        TASK,
        policy,
        renderer,
        limits,
        context_length=1024,
        temperature=1.0,
        seed=11,
        history=make_history(settings),
    )
    return asyncio.run(coroutine), policy


def read_by_parts(episode: Trajectory) -> list[tuple[int, ...]]:
    """What each part of the episode has before each answer; each part has nothing else."""
    read = []
    for part in episode.parts:
        ids: tuple[int, ...] = ()
        for turn in part.turns:
            ids += turn.prompt_token_ids
            read.append(ids)
            ids += turn.completion.token_ids
        assert part.token_ids == ids
    return read


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
    assert read_by_parts(episode) == policy.prompts
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


TOKENIZER = make_tokenizer(chat_template=CHATML)
THINKING = {"format": "chat", "think": True}
ROOMY = EpisodeSettings(max_turns=9, max_action_tokens=99)


def said(text: str) -> tuple[int, ...]:
    """The ids of an answer as the policy writes it, with its end token."""
    end = TOKENIZER.convert_tokens_to_ids("<|im_end|>")
    return (*TOKENIZER.encode(text, add_special_tokens=False), end)


ANSWERS = [
    "<think>\nfive halves it\n</think>\n\n<action>guess 5</action>",
    "<think>above</think>eight, I say",
    "<think>between</think> <action>guess 8</action>",
    "<think></think><action>guess 6</action>",
    "<think>so</think><action>guess 7</action>",
]


def chat(*messages: str) -> str:
    """A conversation of user and assistant in turn, up to the assistant's next answer."""
    texts = [
        f"<|im_start|>{('user', 'assistant')[n % 2]}\n{message}<|im_end|>\n"
        for n, message in enumerate(messages)
    ]
    return "".join(texts) + "<|im_start|>assistant\n"


@pytest.mark.parametrize("template", [CHATML, HYBRID])
def test_earlier_turns_without_their_thoughts(template: str) -> None:
    settings = PromptSettings.model_validate(
        {**THINKING, "history": "window", "window": 2, "history_thoughts": False}
    )
    answers = [said(text) for text in ANSWERS]
    episode, policy = play(settings, *answers, template=template, limits=ROOMY)
    assert (episode.success, episode.invalid_actions) == (True, 1)
    first, five, eight = "Guess my number.", "<action>guess 5</action>", "<action>guess 8</action>"
    nothing, six = "Nothing happens.", "<action>guess 6</action>"
    assert [TOKENIZER.decode(ids) for ids in policy.prompts] == [
        chat(first),
        chat(first, five, "Higher."),
        # An answer without a command: what follows its thought.
        chat(first, five, "Higher.", "eight, I say", nothing),
        chat(f"{first}\n\n[...]\n\nHigher.", "eight, I say", nothing, eight, "Lower."),
        chat(f"{first}\n\n[...]\n\n{nothing}", eight, "Lower.", six, "Higher."),
    ]
    # Each turn is a part and a sample of its own: the prompt, and what the policy wrote, thought
    # included.
    lost, _ = play(settings, *[said("<action>think</action>")] * 9, limits=ROOMY)
    samples = samples_from_group(group(episode, lost))[: len(answers)]
    assert [sample.token_ids for sample in samples] == [
        (*prompt, *answer) for prompt, answer in zip(policy.prompts, answers, strict=True)
    ]
    assert [sample.agent_tokens for sample in samples] == [len(answer) for answer in answers]
    assert {sample.episode for sample in samples} == {0}


@pytest.mark.parametrize("template", [CHATML, HYBRID, DISTILL])
@pytest.mark.parametrize("history", ["full", "summary", f"{__name__}:counted"])
def test_samples_without_earlier_thoughts_are_what_the_policy_saw(
    history: str, template: str
) -> None:
    settings = PromptSettings.model_validate(
        {**THINKING, "history": history, "window": 2, "history_thoughts": False}
    )
    # The third is the summary, if there are any. The last template's prompts begin the thought.
    texts = [ANSWERS[n] for n in (0, 2, 1, 3, 4)]
    begun = "<think>" if template == DISTILL else ""
    words = [said(text.removeprefix(begun)) for text in texts]
    episode, policy = play(settings, *words, template=template, limits=ROOMY)
    assert episode.success
    assert read_by_parts(episode) == policy.prompts
    assert len(episode.parts) == len(episode.turns) == len(words)
    shown = "".join(TOKENIZER.decode(prompt) for prompt in policy.prompts)
    assert "<action>guess 6</action>" in shown
    assert not any(thought in shown for thought in ("halves", "above", "between"))


def test_a_cut_thought_is_left_out_later_and_stays_before_its_own_action() -> None:
    settings = PromptSettings.model_validate({**THINKING, "history_thoughts": False})
    limits = EpisodeSettings(max_turns=3, max_action_tokens=40, max_thought_tokens=24)
    long = said("<think>it is odd, so it may be five or seven or nine")
    five, seven = said("<action>guess 5</action>"), said("<action>guess 7</action>")
    episode, policy = play(settings, long, five, seven, limits=limits)
    assert [turn.kind for turn in episode.turns] == ["thought", "action", "action"]
    assert read_by_parts(episode) == policy.prompts
    shown = [TOKENIZER.decode(ids) for ids in policy.prompts]
    forced = settings.thought_end
    assert shown[1] == f"{shown[0]}{TOKENIZER.decode(long[:24])}{forced}"
    assert shown[2] == chat("Guess my number.", "<action>guess 5</action>", "Higher.")
