"""Batches the requests of many episodes into few messages between two processes.

A message between two of Ray's processes costs more CPU time than an environment's step and the
tokenizer together. So requests that come up together travel in one message, and one answer carries
all completions that are ready. For example, three episodes of a worker ask in the same moment:

    worker                                     policy
    [1, 2, 3]  ------------------------------> starts all three
               <------------------------------ [1, 3], as soon as some are ready
    []         ------------------------------> nothing new; it waits for 2
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from rollouts.episode import Policy, describe
from rollouts.serving.engine_thread import EngineDead
from rollouts.types import Completion


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


Answer = tuple[int, Completion | str]
"""A request's number, and its completion or the text of its error."""


@dataclass(kw_only=True)
class _Account:
    """The requests and answers of one client."""

    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    """The requests that have no answer yet, by number."""
    answers: list[Answer] = field(default_factory=list)
    """The answers that have not been sent yet."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request ends, whether with an answer or cancelled."""

    def ended(self, number: int, _: object) -> None:
        """Note that a request ended."""
        del self.running[number]
        self.changed.set()


class Exchange:
    """The policy's side: completes the requests of all clients concurrently.

    A request that the policy refuses is answered with its error. If the engine dies, nothing is
    answered: the call raises, and the client keeps its requests for another engine.
    """

    def __init__(self, policy: Policy) -> None:
        """Let `policy` complete every request."""
        self._policy = policy
        self._accounts: dict[str, _Account] = {}
        self._forgotten: set[str] = set()
        """Names of clients that are gone. Their last messages may still arrive."""
        self._death: EngineDead | None = None

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        """Start `requests`, then wait until `client` has answers, and return all of them once.

        The answers may be those of earlier calls. The list is empty if the client has no request
        left, because all were cancelled or answered, or because the client was forgotten.

        Raises:
            EngineDead: the engine died, and all its answers have been returned.
            LookupError: the client was forgotten.
        """
        if client in self._forgotten:
            raise LookupError(f"the client {client!r} was forgotten")
        account = self._accounts.setdefault(client, _Account())
        for request in requests:
            running = asyncio.ensure_future(self._complete(account, request))
            account.running[request.number] = running
            # A task that is cancelled before it begins runs none of its own lines.
            running.add_done_callback(partial(account.ended, request.number))
        # The loop, because a cancelled request sets the event and leaves no answer.
        while account.running and not account.answers:
            account.changed.clear()
            await account.changed.wait()
        if self._death is not None and not account.answers:
            raise EngineDead(str(self._death)) from self._death
        answers, account.answers = account.answers, []
        return answers

    def cancel(self, client: str, number: int) -> None:
        """Stop a request; it gets no answer. An unknown one is ignored: its answer was faster."""
        account = self._accounts.get(client)
        if account is not None and number in account.running:
            account.running[number].cancel()

    def forget(self, client: str) -> None:
        """Stop all requests of a client that is gone; an unknown one is ignored."""
        self._forgotten.add(client)
        account = self._accounts.pop(client, None)
        if account is not None:
            for running in account.running.values():
                running.cancel()

    async def _complete(self, account: _Account, request: CompletionRequest) -> None:
        try:
            completion = await self._policy.complete(
                request.token_ids,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                stop_token_ids=request.stop_token_ids,
                seed=request.seed,
            )
            account.answers.append((request.number, completion))
        except EngineDead as error:
            self._death = error
        except Exception as error:
            # An error is an answer too: raised here, it would fail the other requests as well.
            account.answers.append((request.number, describe(error)))


@dataclass(frozen=True, kw_only=True)
class _Waiting:
    """A request that has no answer yet."""

    request: CompletionRequest
    answer: "asyncio.Future[Completion]"


class PolicyClient(ABC):
    """The worker's side: a `Policy` that asks an `Exchange` in another process.

    Subclasses say how to reach the exchange. A client can be pickled until its first request, and
    needs no running event loop before that.

    Two rules decide when a message goes out:

    - requests wait until all coroutines that can run now have run, so one message carries them all;
    - while an answer is missing, at least one message is under way that can bring it.

    If a message fails, the exchange is gone. The client then keeps its requests, and takes more,
    until `send_again`.
    """

    def __init__(self) -> None:
        """Start with no requests."""
        self._lost = False
        """Whether the exchange is gone."""
        self._requests_made = 0
        self._outbox: list[CompletionRequest] = []
        """Requests that no message has taken along yet."""
        self._waiting: dict[int, _Waiting] = {}
        """The requests that have no answer yet, by number, the oldest first."""
        self._messages: set[asyncio.Task[None]] = set()
        """The messages under way. The set also keeps their tasks alive, which asyncio does not."""
        self._old_messages: set[asyncio.Task[None]] = set()
        """Messages to an exchange that is no longer asked. Nobody reads their answers."""
        self._send_is_due = False

    @abstractmethod
    def send(self, requests: Sequence[CompletionRequest]) -> Awaitable[list[Answer]]:
        """Call `Exchange.exchange` for this client."""

    @abstractmethod
    def send_cancel(self, number: int) -> None:
        """Call `Exchange.cancel` for this client, without waiting for it."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        """Sample a completion, as `Policy.complete`.

        Raises:
            RuntimeError: the policy raised; the message is its error's.
        """
        self._requests_made += 1
        request = CompletionRequest(
            number=self._requests_made,
            token_ids=token_ids,
            max_tokens=max_tokens,
            temperature=temperature,
            stop_token_ids=stop_token_ids,
            seed=seed,
        )
        answer: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = _Waiting(request=request, answer=answer)
        self._outbox.append(request)
        self._send_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            # The episode has run out of time; its tokens would only hold up the others.
            if request in self._outbox:
                self._outbox.remove(request)
            else:
                self.send_cancel(request.number)
            raise
        finally:
            self._waiting.pop(request.number, None)

    def send_again(self) -> None:
        """Send all waiting requests once more, in order, to what `send` reaches from now on.

        They keep their numbers and seeds. Answers of the former exchange are ignored.
        """
        self._lost = False
        self._old_messages |= self._messages
        self._messages = set()
        waiting = self._waiting.values()
        self._outbox = [one.request for one in waiting if not one.answer.done()]
        if self._outbox:
            self._send_soon()

    def _send_soon(self) -> None:
        # `call_soon` runs after every coroutine that is ready now. Those are the other episodes
        # that the last answer woke, and their requests join this message.
        if not self._send_is_due:
            self._send_is_due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._send_is_due = False
        # With an empty outbox a message still goes out if an answer is missing and none is under
        # way: without it the answer would have no way back.
        if self._lost:
            return
        if self._outbox or (self._waiting and not self._messages):
            requests, self._outbox = self._outbox, []
            self._messages.add(asyncio.ensure_future(self._talk(requests)))

    async def _talk(self, requests: Sequence[CompletionRequest]) -> None:
        message = asyncio.current_task()
        assert message is not None
        answers: Sequence[Answer] | None = None
        # An error says that the exchange is gone, and with it every request that it had.
        with suppress(Exception):
            answers = await self.send(requests)
        if message in self._old_messages:
            self._old_messages.discard(message)
            return
        self._messages.discard(message)
        if answers is None:
            self._lost = True
            return
        for number, answer in answers:
            waiting = self._waiting.get(number)
            if waiting is None or waiting.answer.done():
                continue  # cancelled meanwhile
            if isinstance(answer, Completion):
                waiting.answer.set_result(answer)
            else:
                waiting.answer.set_exception(RuntimeError(answer))
        # Later than the woken episodes' next requests, which so join the next message.
        self._send_soon()
