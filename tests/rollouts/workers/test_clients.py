from typing import Any

from rollouts.serving.messages import Address
from rollouts.workers.clients import EngineClients


class Method:
    """A method of an actor: notes its calls."""

    def __init__(self, name: str, calls: list[Any]) -> None:
        self.name, self.calls = name, calls

    def remote(self, *arguments: Any) -> None:
        self.calls.append((self.name, *arguments))


class Actor:
    """What Ray gives out for an engine, or a worker."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.forget, self.move = Method("forget", self.calls), Method("move", self.calls)


class Engine:
    """An engine that has started, unless its address is set to None."""

    def __init__(self, number: int) -> None:
        self.actor = Actor()
        self.address: Address | None = Address(f"tcp://127.0.0.1:{number}", b"key")


def test_while_an_engine_is_gone_its_clients_talk_to_another() -> None:
    first, second, new = (Engine(number) for number in range(3))
    worker = Actor()
    clients = EngineClients([first, second], lambda: [worker])
    names = [client._name for client in clients.make(0)]
    clients.begin(0, first, [first, second])
    clients.begin(1, second, [first, second])
    # Clients that were made before the engines had started learn where these are.
    assert worker.calls == [
        ("move", 0, first.address, names[0]),
        ("move", 1, second.address, names[1]),
    ]

    worker.calls.clear()
    clients.leave(first, stand_in=second)
    ((_, number, address, guest),) = worker.calls
    assert (number, address) == (0, second.address)
    assert guest not in names

    worker.calls.clear()
    clients.begin(0, new, [new, second])
    ((_, number, address, name),) = worker.calls
    assert (number, address) == (0, new.address)
    assert name not in (*names, guest)
    assert second.actor.calls == [("forget", guest)]


def test_clients_that_have_nobody_talk_to_the_first_engine_that_can_play() -> None:
    first, second, starting, new = (Engine(number) for number in range(4))
    worker = Actor()
    clients = EngineClients([first, second], lambda: [worker])
    clients.make(0)
    clients.begin(1, new, [starting, new])
    assert [call[1:3] for call in worker.calls] == [(0, new.address), (1, new.address)]


def test_a_new_worker_gets_new_names_and_its_predecessor_is_forgotten() -> None:
    engine, worker = Engine(0), Actor()
    clients = EngineClients([engine], lambda: [worker])
    (old,) = clients.make(0)
    (new,) = clients.make(0)
    assert old._name != new._name
    assert engine.actor.calls == [("forget", old._name)]
