"""The policy of another process, as a worker sees it.

A request leaves as soon as an episode makes it: the engine takes it while the worker still works on
the next episode. Answers that come up together travel in one message. For example, three episodes
of a worker:

    worker                               engine
    request 1  ----------------------->
    request 2  ----------------------->
    request 3  ----------------------->  takes all three between two steps
               <-----------------------  answers 1, 3, which ended with the same step
    request 4  ----------------------->  the next turn of one of these two episodes
    request 5  ----------------------->  and of the other one
               <-----------------------  answer 2
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import zmq
import zmq.asyncio

from rollouts.serving.messages import (
    Address,
    ClientMessage,
    CompletionRequest,
    decode_answers,
    encode,
)
from rollouts.types import Completion


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A request that has no answer yet."""

    request: CompletionRequest
    answer: "asyncio.Future[Completion]"


class RemotePolicy:
    """A `Policy` whose engine is in another process, on this machine or another.

    It can be pickled until its first request, and needs no running event loop before that. If the
    engine dies, or has not started yet, requests wait until `move` names another address.
    """

    def __init__(self, address: Address | None, name: str) -> None:
        """Talk to the engine at `address` under a `name` that no other client has.

        Args:
            address: where the engine is; None if that is not known yet.
            name: of this client.
        """
        self._address, self._name = address, name
        self._socket: zmq.asyncio.Socket | None = None
        self._reading: asyncio.Task[None] | None = None
        self._requests_made = 0
        self._waiting: dict[int, _Waiting] = {}
        """The requests that have no answer yet, by number, the oldest first."""
        self._answered_at: float | None = None
        """When the last answers came, on the monotonic clock."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """Sample a completion, as `Policy.complete`.

        Raises:
            RuntimeError: the engine refused the request, or gave it up; the message is its error's.
        """
        self._requests_made += 1
        request = CompletionRequest(
            number=self._requests_made,
            token_ids=token_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            stop_token_ids=stop_token_ids,
            seed=seed,
            stop=tuple(stop),
        )
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = _Waiting(request=request, answer=answer)
        answered_at = self._answered_at
        away = None if answered_at is None else time.monotonic() - answered_at
        self._send(ClientMessage(requests=(request,), away=away))
        try:
            return await answer
        except asyncio.CancelledError:
            # The episode has run out of time; its tokens would only hold up the others.
            self._send(ClientMessage(cancelled=(request.number,)))
            raise
        finally:
            self._waiting.pop(request.number, None)

    def move(self, address: Address, name: str) -> None:
        """Talk to another engine under a new name, and send it all waiting requests, in order.

        They keep their numbers and seeds. Answers of the former engine are ignored.
        """
        if (address, name) == (self._address, self._name):
            return
        self.close()
        self._address, self._name = address, name
        waiting = self._waiting.values()
        requests = [one.request for one in waiting if not one.answer.done()]
        if requests:
            self._send(ClientMessage(requests=requests))

    def close(self) -> None:
        """Close the socket. The next request opens another one."""
        if self._reading is not None:
            self._reading.cancel()
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = self._reading = self._answered_at = None

    def _send(self, message: ClientMessage) -> None:
        """Send a message, unless there is no engine yet: `move` will send the waiting requests."""
        if self._address is None:
            return
        if self._socket is None:
            self._connect()
        assert self._socket is not None
        # It is written at once: the socket takes any number of messages, connected or not.
        self._socket.send(encode(message))

    def _connect(self) -> None:
        assert self._address is not None
        self._socket = zmq.asyncio.Context.instance().socket(zmq.DEALER)
        self._socket.set_hwm(0)
        self._socket.identity = self._name.encode()
        self._socket.curve_serverkey = self._address.key
        self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
        self._socket.connect(self._address.endpoint)
        self._reading = asyncio.ensure_future(self._read(self._socket))

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        """Hand out the answers as they come, for ever."""
        while True:
            answers = decode_answers(await socket.recv())
            self._answered_at = time.monotonic()
            for number, answer in answers:
                self._hand_out(number, answer)

    def _hand_out(self, number: int, answer: Completion | str) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.answer.done():
            return  # It was cancelled meanwhile.
        if isinstance(answer, Completion):
            waiting.answer.set_result(answer)
        else:
            waiting.answer.set_exception(RuntimeError(answer))
