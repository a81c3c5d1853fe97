"""Why vLLM ended a completion."""

from types import SimpleNamespace
from typing import Any

import pytest

from rollouts import Completion, FinishReason
from rollouts.serving.completions import completion_of, finish_reason


def output(reason: str | None, stopped_by: int | str | None = None) -> Any:
    """Two ids as vLLM tells them, of versions 3 and 4."""
    spans = [SimpleNamespace(version="3", start=0), SimpleNamespace(version="4", start=1)]
    sampled = SimpleNamespace(
        token_ids=[7, 8],
        logprobs=[
            {7: SimpleNamespace(logprob=-0.5), 9: SimpleNamespace(logprob=-0.1)},
            {8: SimpleNamespace(logprob=-0.25)},
        ],
        finish_reason=reason,
        stop_reason=stopped_by,
        weight_versions=spans,
    )
    return SimpleNamespace(outputs=[sampled])


def test_a_completion_has_the_sampled_ids_log_probs_and_versions() -> None:
    assert completion_of(output("stop", "</action>")) == Completion(
        token_ids=(7, 8),
        logprobs=(-0.5, -0.25),
        finish_reason=FinishReason.STOP_TEXT,
        versions=((3, 0), (4, 1)),
    )
    assert "before it was whole" in str(completion_of(output("abort")))


@pytest.mark.parametrize("ending", ["abort", "error", None])
def test_a_completion_that_the_engine_gave_up_is_an_error(ending: str | None) -> None:
    with pytest.raises(RuntimeError, match=f"{ending!r} before it was whole"):
        finish_reason(ending)


def test_a_completion_that_was_cut_is_not_a_whole_one() -> None:
    assert finish_reason("stop") is finish_reason("stop", 7) is FinishReason.STOP
    assert finish_reason("stop", "</action>") is FinishReason.STOP_TEXT
    assert {finish_reason(cut) for cut in ("length", "repetition")} == {FinishReason.LENGTH}
