"""What is written is read back, to the bit."""

import math

import msgspec
import pytest

from rollouts.serving.messages import (
    Answer,
    ClientMessage,
    CompletionRequest,
    decode_answers,
    decode_message,
    encode,
)
from rollouts.types import Completion, FinishReason


def test_requests_are_read_as_they_were_written() -> None:
    request = CompletionRequest(
        number=3,
        token_ids=[5, 70_000],
        max_tokens=4,
        temperature=0.4,
        stop_token_ids=[2],
        seed=2**64 - 1,
        stop=("\n", "</action>"),
    )
    message = ClientMessage(requests=[request], cancelled=[1, 2], away=0.25)
    assert decode_message(encode(message)) == message


def test_answers_are_read_as_they_were_written() -> None:
    completion = Completion(
        token_ids=(1, 2, 3),
        logprobs=(-0.1, 0.1 + 0.2, -math.inf),
        finish_reason=FinishReason.LENGTH,
        versions=((3, 0), (4, 1)),
        seconds=0.5,
    )
    answers: list[Answer] = [(7, completion), (8, "ValueError: no")]
    read = decode_answers(encode(answers))
    assert read == answers
    assert isinstance(read[0][1], Completion)
    assert read[0][1].seconds == 0.5


def test_anything_else_is_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_message(b"not a message")
    with pytest.raises(msgspec.MsgspecError):
        decode_answers(encode(ClientMessage()))
