"""What workers and an engine say to each other, and how it is written: MessagePack, no pickles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from rollouts.types import Completion


class Address(NamedTuple):
    """Where an engine takes requests."""

    endpoint: str
    """Such as `tcp://127.0.0.1:40001`."""
    key: bytes
    """The engine's public key (CURVE). Nobody connects without it; it is told to workers only."""


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """The arguments of `Policy.complete`, with a number."""

    number: int
    """The client's own count of its requests; the answer carries it."""
    token_ids: Sequence[int]
    """The prompt."""
    max_tokens: int
    """The most ids to sample."""
    temperature: float
    """The sampling temperature; 0 is greedy."""
    stop_token_ids: Sequence[int]
    """The ids that end the completion."""
    seed: int | None
    """The seed of the sampling; None draws one."""
    stop: tuple[str, ...] = ()
    """Texts that end the completion, too."""


@dataclass(frozen=True, kw_only=True)
class ClientMessage:
    """What a worker tells an engine."""

    requests: Sequence[CompletionRequest] = ()
    """New requests."""
    cancelled: Sequence[int] = ()
    """The numbers of earlier requests that need no answer any more."""
    away: float | None = None
    """Seconds from the last answers to these requests: the environments' time and the tokenizer's.
    None if no answer has come yet, or if the requests are sent again."""


Answer = tuple[int, Completion | str]
"""A request's number, and its completion or the text of its error."""

_ENCODER = msgspec.msgpack.Encoder()
_MESSAGES = msgspec.msgpack.Decoder(ClientMessage)
_ANSWERS = msgspec.msgpack.Decoder(list[Answer])


def encode(message: ClientMessage | Sequence[Answer]) -> bytes:
    """Write a message of a worker, or an engine's answers."""
    return _ENCODER.encode(message)


def decode_message(data: bytes) -> ClientMessage:
    """Read what a worker wrote. Raises `msgspec.MsgspecError` for anything else."""
    return _MESSAGES.decode(data)


def decode_answers(data: bytes) -> list[Answer]:
    """Read what an engine wrote. Raises `msgspec.MsgspecError` for anything else."""
    return _ANSWERS.decode(data)
