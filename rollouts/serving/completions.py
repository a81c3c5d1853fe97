"""Reads vLLM's outputs as completions."""

from typing import Any

from rollouts.types import Completion, FinishReason


def completion_of(answer: Any) -> Completion | RuntimeError:
    """Return vLLM's final output of a request as a completion, or the error that it is instead."""
    output = answer.outputs[0]
    try:
        reason = finish_reason(output.finish_reason, output.stop_reason)
    except RuntimeError as error:
        return error
    # At each position vLLM returns log-probs by id; only the sampled id's is of use.
    sampled = zip(output.token_ids, output.logprobs, strict=True)
    return Completion(
        token_ids=tuple(output.token_ids),
        logprobs=tuple(logprobs[token].logprob for token, logprobs in sampled),
        finish_reason=reason,
        versions=tuple((int(span.version), span.start) for span in output.weight_versions),
    )


def finish_reason(of_vllm: str | None, stopped_by: int | str | None = None) -> FinishReason:
    """Return why a completion ended; raise `RuntimeError` if vLLM gave it up."""
    if of_vllm == "stop":
        return FinishReason.STOP_TEXT if isinstance(stopped_by, str) else FinishReason.STOP
    if of_vllm in ("length", "repetition"):
        return FinishReason.LENGTH
    raise RuntimeError(f"vLLM ended the completion with {of_vllm!r} before it was whole")
