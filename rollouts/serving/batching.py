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
from dataclasses import dataclass, field

from rollouts.episode import Policy, describe
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


class Exchange:
    """The policy's side: completes the requests of all clients concurrently."""

    def __init__(self, policy: Policy) -> None:
        """Let `policy` complete every request."""
        self._policy = policy
        self._accounts: dict[str, _Account] = {}

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        """Start `requests`, then wait until `client` has answers, and return all of them once.

        The answers may be those of earlier calls. The list is empty if the client has no request
        left, because all were cancelled or answered.
        """
        account = self._accounts.setdefault(client, _Account())
        for request in requests:
            account.running[request.number] = asyncio.ensure_future(
                self._complete(account, request)
            )
        # The loop, because a cancelled request sets the event and leaves no answer.
        while account.running and not account.answers:
            account.changed.clear()
            await account.changed.wait()
        answers, account.answers = account.answers, []
        return answers

    def cancel(self, client: str, number: int) -> None:
        """Stop a request; it gets no answer. An unknown one is ignored: its answer was faster."""
        account = self._accounts.get(client)
        if account is not None and number in account.running:
            account.running[number].cancel()

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
        except Exception as error:
            # An error is an answer too: raised here, it would fail the other requests as well.
            account.answers.append((request.number, describe(error)))
        finally:
            del account.running[request.number]
            account.changed.set()


class PolicyClient(ABC):
    """The worker's side: a `Policy` that asks an `Exchange` in another process.

    Subclasses say how to reach the exchange. A client can be pickled until its first request, and
    needs no running event loop before that.

    Two rules decide when a message goes out:

    - requests wait until all coroutines that can run now have run, so one message carries them all;
    - while an answer is missing, at least one message is under way that can bring it.
    """

    def __init__(self) -> None:
        """Start with no requests."""
        self._requests_made = 0
        self._outbox: list[CompletionRequest] = []
        """Requests that no message has taken along yet."""
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        """The futures of the requests that have no answer yet, by number."""
        self._messages: set[asyncio.Task[None]] = set()
        """The messages under way. The set also keeps their tasks alive, which asyncio does not."""
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
            RuntimeError: the policy raised or could not be reached; the message is its error's.
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
        waiting: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[request.number] = waiting
        self._outbox.append(request)
        self._send_soon()
        try:
            return await waiting
        except asyncio.CancelledError:
            # The episode has run out of time; its tokens would only hold up the others.
            self.send_cancel(request.number)
            raise
        finally:
            self._waiting.pop(request.number, None)

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
        if self._outbox or (self._waiting and not self._messages):
            requests, self._outbox = self._outbox, []
            self._messages.add(asyncio.ensure_future(self._talk(requests)))

    async def _talk(self, requests: Sequence[CompletionRequest]) -> None:
        try:
            answers = await self.send(requests)
        except Exception as error:
            # The other process is gone, and with it every request that it had: all of them fail.
            answers = [(number, describe(error)) for number in self._waiting]
        for number, answer in answers:
            waiting = self._waiting.get(number)
            if waiting is None or waiting.done():
                continue  # cancelled meanwhile
            if isinstance(answer, Completion):
                waiting.set_result(answer)
            else:
                waiting.set_exception(RuntimeError(answer))
        message = asyncio.current_task()
        assert message is not None
        self._messages.discard(message)
        # Later than the woken episodes' next requests, which so join the next message.
        self._send_soon()
