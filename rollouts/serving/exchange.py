"""Many completions in few messages: what a worker asks of a policy in another process, and what
comes back.

A call between two of Ray's processes costs more CPU time than an environment's step and the
tokenizer together, and a serving engine ends several completions in one of its steps. So requests
that come up together travel together, and an answer brings every completion that there is.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from rollouts.episode import Policy, describe
from rollouts.types import Completion


@dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """The arguments of `Policy.complete`, and the number that its answer comes back under."""

    number: int
    token_ids: Sequence[int]
    max_tokens: int
    temperature: float
    stop_token_ids: Sequence[int]
    seed: int | None


Answer = tuple[int, Completion | str]
"""A request's number, and the completion or the text of the error."""


@dataclass(kw_only=True)
class _Account:
    """What one client has asked for."""

    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Exchange:
    """The policy's side: it completes what the clients ask for, all at the same time."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._accounts: dict[str, _Account] = {}

    async def exchange(self, client: str, requests: Sequence[CompletionRequest]) -> list[Answer]:
        """Take on `requests`, then wait until there is an answer for `client`; all that there are,
        each of them once.

        The answers may be those of earlier calls. They are empty where nothing that the client
        asked for is left.
        """
        account = self._accounts.setdefault(client, _Account())
        for request in requests:
            account.running[request.number] = asyncio.ensure_future(
                self._complete(account, request)
            )
        while account.running and not account.answers:
            account.news.clear()
            await account.news.wait()
        answers, account.answers = account.answers, []
        return answers

    def cancel(self, client: str, number: int) -> None:
        """Stop what is being done for a request; it has no answer."""
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
        except Exception as error:  # a value to the client, whoever raised it
            account.answers.append((request.number, describe(error)))
        finally:
            del account.running[request.number]
            account.news.set()


class PolicyClient(ABC):
    """The worker's side: a `Policy` that asks an `Exchange` elsewhere; subclasses say how to reach
    it.

    A message goes out when everything that runs now has asked for what it needs, and one is always
    under way while an answer is missing. Needs no running event loop to be made, and can be pickled
    as long as it is unused.
    """

    def __init__(self) -> None:
        self._asked = 0
        self._outbox: list[CompletionRequest] = []
        self._waiting: dict[int, asyncio.Future[Completion]] = {}
        self._messages: set[asyncio.Task[None]] = set()
        self._due = False

    @abstractmethod
    def send(self, requests: Sequence[CompletionRequest]) -> Awaitable[list[Answer]]:
        """`Exchange.exchange`, for this client."""

    @abstractmethod
    def send_cancel(self, number: int) -> None:
        """`Exchange.cancel`, for this client; nobody waits for it."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
    ) -> Completion:
        """As `Policy.complete`.

        Raises:
            RuntimeError: the policy raised, or could not be reached; with its error's text.
        """
        self._asked += 1
        request = CompletionRequest(
            number=self._asked,
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
            self.send_cancel(request.number)
            raise
        finally:
            self._waiting.pop(request.number, None)

    def _send_soon(self) -> None:
        if not self._due:
            self._due = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._due = False
        if self._outbox or (self._waiting and not self._messages):
            requests, self._outbox = self._outbox, []
            self._messages.add(asyncio.ensure_future(self._talk(requests)))

    async def _talk(self, requests: Sequence[CompletionRequest]) -> None:
        try:
            answers = await self.send(requests)
        except (
            Exception
        ) as error:  # the other process is gone: what was asked there has no other answer
            answers = [(number, describe(error)) for number in self._waiting]
        for number, answer in answers:
            waiting = self._waiting.get(number)
            if waiting is None or waiting.done():
                continue
            if isinstance(answer, Completion):
                waiting.set_result(answer)
            else:
                waiting.set_exception(RuntimeError(answer))
        message = asyncio.current_task()
        assert message is not None
        self._messages.discard(message)
        self._send_soon()
