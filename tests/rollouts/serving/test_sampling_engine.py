"""Stop strings and a budget of thought with a real engine, whose log-probs transformers repeats."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rollouts import Completion, EpisodeSettings, FinishReason, PromptSettings, ServingSettings
from rollouts.episode import run_episode
from rollouts.renderer import make_renderer
from rollouts.serving.policy_actor import PolicyActor
from tests.builders.chat_templates import PRESERVING
from tests.builders.models import make_model, make_tokenizer, save_policy
from tests.builders.number_env import NumberEnv
from tests.rollouts.test_episode import TASK

pytestmark = pytest.mark.engine

TOKENIZER = make_tokenizer(chat_template=PRESERVING)
PROMPT = tuple(range(10, 30))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicyActor]:
    folder = save_policy(Path(tmp_path_factory.mktemp("policy")), 0)
    settings = ServingSettings(kv_cache_gib=0.01, dtype="float32", max_concurrent=4)
    served = PolicyActor(settings, stops=True)
    asyncio.run(served.start(folder, 3))
    yield served
    asyncio.run(served.shutdown())


def ask(policy: PolicyActor, *stop: str) -> Completion:
    asked = policy.complete(
        PROMPT, max_tokens=120, temperature=1.0, stop_token_ids=(), seed=4, stop=stop
    )
    return asyncio.run(asked)


def within_a_token(completion: Completion) -> tuple[str, int]:
    """A text that first ends within a later token, and the number of ids that it takes."""
    texts = [TOKENIZER.decode([i]) for i in completion.token_ids]
    for count in range(20, len(texts)):
        last, text = texts[count], texts[count - 1] + texts[count][:-1]
        before = TOKENIZER.decode(list(completion.token_ids[:count]))
        if len(last) > 1 and text.isascii() and text not in before:
            return text, count + 1
    raise AssertionError("no such token was sampled; take another seed")


def test_the_engine_stops_at_the_token_that_completes_a_text(policy: PolicyActor) -> None:
    whole = ask(policy)
    assert (len(whole.token_ids), whole.finish_reason) == (120, FinishReason.LENGTH)
    stop, count = within_a_token(whole)
    before = asyncio.run(policy.statistics()).sampled_tokens
    stopped = ask(policy, "no such text", stop)
    assert asyncio.run(policy.statistics()).sampled_tokens == before + count < before + 120
    assert stopped.finish_reason is FinishReason.STOP_TEXT
    assert stopped.token_ids == whole.token_ids[:count]
    assert stopped.logprobs == pytest.approx(whole.logprobs[:count], abs=1e-4)
    assert stopped.versions == ((3, 0),)
    # The episode finds the same end, whoever looks for it.
    settings = PromptSettings(stop=("no such text", stop))
    reader = make_renderer(make_tokenizer(), settings).answers
    assert reader.until_stop(whole).token_ids == stopped.token_ids
    assert reader.until_stop(stopped) == stopped


def test_a_thought_is_cut_and_every_sampled_id_has_its_log_prob(policy: PolicyActor) -> None:
    import torch

    settings = PromptSettings(
        format="chat", think=True, template_options={"preserve_thinking": True}, stop=("</action>",)
    )
    renderer = make_renderer(TOKENIZER, settings)
    assert renderer.appends
    limits = EpisodeSettings(max_turns=3, max_thought_tokens=8, max_action_tokens=12)
    playing = run_episode(
        NumberEnv(), TASK, policy, renderer, limits, context_length=512, temperature=1.0, seed=1
    )
    episode = asyncio.run(playing)
    assert not episode.error
    assert (len(episode.actions), len(episode.parts)) == (3, 1)
    assert episode.cut_thoughts > 0
    for thought, action in zip(episode.turns, episode.turns[1:], strict=False):
        if thought.kind == "thought":
            assert len(thought.completion.token_ids) == 8
            assert TOKENIZER.decode(action.prompt_token_ids) == "\n</think>\n\n"
            assert len(action.completion.token_ids) <= 12
    # Of a model that read exactly the episode's ids.
    model: Any = make_model(0).float()
    ids = torch.tensor([episode.token_ids])
    with torch.no_grad():
        logprobs_TV = model(ids).logits[0, :-1].log_softmax(-1)
    logprobs_T = logprobs_TV.gather(1, ids[0, 1:, None])[:, 0]
    mask_T = torch.tensor(episode.action_mask[1:])
    sampled_T = torch.tensor(episode.behavior_logprobs[1:])
    assert mask_T.sum() == sum(len(turn.completion.token_ids) for turn in episode.turns)
    assert (logprobs_T - sampled_T)[mask_T].abs().max() < 1e-3
    assert sampled_T[~mask_T].abs().max() == 0.0
