"""What an engine's thread keeps about its clients."""

import pytest

from rollouts.serving.clients import Clients
from rollouts.serving.messages import Answer, ClientMessage, CompletionRequest
from rollouts.types import Completion, FinishReason

COMPLETION = Completion(
    token_ids=(1,), logprobs=(0.0,), finish_reason=FinishReason.STOP, versions=((0, 0),)
)
REQUEST = CompletionRequest(
    number=1, token_ids=(1,), max_tokens=1, temperature=1.0, stop_token_ids=(), seed=None
)


class Sent:
    """In the place of a socket."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, list[Answer]]] = []

    def send(self, client: bytes, answers: list[Answer]) -> None:
        self.messages.append((client, list(answers)))


def test_answers_of_a_client_are_one_message() -> None:
    clients, sent = Clients(), Sent()
    clients.reply(b"a", 1, COMPLETION, 0.5)
    clients.reply(b"b", 1, ValueError("no"), 0.0)
    clients.reply(b"a", 2, COMPLETION, 0.7)
    clients.send(sent)  # type: ignore[arg-type]
    clients.send(sent)  # type: ignore[arg-type]
    (first, answers), (second, errors) = sent.messages
    assert (first, second, errors) == (b"a", b"b", [(1, "ValueError: no")])
    assert [number for number, _ in answers] == [1, 2]
    completions = [answer for _, answer in answers if isinstance(answer, Completion)]
    assert [completion.seconds for completion in completions] == [0.5, 0.7]
    assert clients.answered == 2


def test_a_forgotten_client_is_neither_heard_nor_answered() -> None:
    clients, sent = Clients(), Sent()
    assert clients.note(b"a", ClientMessage(requests=[REQUEST]))
    clients.reply(b"a", 1, COMPLETION, 0.5)
    clients.forget(b"a")
    assert not clients.note(b"a", ClientMessage(requests=[REQUEST]))
    clients.reply(b"a", 2, COMPLETION, 0.5)
    clients.send(sent)  # type: ignore[arg-type]
    assert sent.messages == []


def test_the_time_away_is_about_the_median_with_the_transport() -> None:
    clients = Clients()
    clients.note(b"a", ClientMessage(away=0.003))
    assert clients.away == pytest.approx(0.004)
    clients.note(b"a", ClientMessage(away=None))
    clients.note(b"b", ClientMessage(away=5.0))
    assert clients.away == pytest.approx(0.0044)
    clients.note(b"b", ClientMessage(away=0.001))
    assert clients.away == pytest.approx(0.00396)
    # One episode of five begins anew, which takes seconds. The mean would be half a second.
    for _ in range(40):
        for away in (0.001, 0.002, 2.5, 0.003, 0.004):
            clients.note(b"a", ClientMessage(away=away))
    assert 0.003 < clients.away < 0.005


def test_requests_are_counted_from_the_last_answer_on() -> None:
    clients, sent = Clients(), Sent()
    clients.note(b"a", ClientMessage(requests=[REQUEST, REQUEST]))
    assert clients.came_back == 2
    clients.send(sent)  # type: ignore[arg-type]
    assert clients.came_back == 2  # nothing was sent
    clients.reply(b"a", 1, COMPLETION, 0.5)
    clients.send(sent)  # type: ignore[arg-type]
    assert clients.came_back == 0
