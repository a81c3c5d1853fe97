"""The alfworld package's expert, adapted to the engines here and to commands that others choose."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from envs.alfworld.engines.engine import Frame
from envs.alfworld.names import LOOK
from envs.alfworld.package import import_alfworld
from envs.text_env import NOTHING_HAPPENS

_package = import_alfworld("alfworld.agents.expert")

_POLICY_STEPS = 1000
"""The package's policy gives up after this many; no episode here is so long."""
_HARMLESS = ("look", "inventory", "help", "examine")
"""Commands that change nothing in the game."""


class HandcodedExpert:
    """Advises the next command of one episode, from the engine's facts and the commands sent.

    It differs from the package's own wrapper in four points. It needs no `traj_data.json`. It gives
    its first advice at the reset. It draws from its own random generator. It notices that a thing
    has left its hands: since alfworld 0.4.0 the command is `move`, and the package's policy still
    looks for `put`.

    The facts come in one order and are only those that the policy reads, because the policy takes
    the first fact that fits.
    """

    def __init__(self, game_id: str, seed: int) -> None:
        """Set up the policy for one game.

        Args:
            game_id: `family-Object-MovableReceptacle-Receptacle-scene/trial`, which tells the task.
            seed: decides the expert's random choices, together with `game_id`.
        """
        family, target, _, place, *_ = game_id.partition("/")[0].lower().split("-")
        under_lamp = family == LOOK
        params = {
            "task_type": family,
            "object_target": target,
            "parent_target": "" if under_lamp else place,
            "toggle_target": place if under_lamp else "",
        }
        policy_class = _package.HandCodedTWAgent().get_task_policy(params)
        self._policy = policy_class(params, max_steps=_POLICY_STEPS)
        self._policy.get_facts = lambda state: state["facts"]
        self._random_state = random.Random(f"{seed}:{game_id}").getstate()
        self._advice: str | None = None

    def start(self, frame: Frame) -> str | None:
        """The first advice, from the frame after the reset."""
        return self._think(frame, "")

    def advise(self, frame: Frame, command: str) -> str | None:
        """The next advice, after `command` has led to `frame`; None if there is none."""
        command = command.strip()
        failed = frame.text == NOTHING_HAPPENS
        harmless = command.split(" ", 1)[0] in _HARMLESS
        if self._advice is not None and command != self._advice and (failed or harmless):
            # Nothing has changed, so the old advice still holds. The policy must not see such a
            # text: it would forget what the place in front of it holds.
            return self._advice
        return self._think(frame, command)

    def _think(self, frame: Frame, command: str) -> str | None:
        verb, _, rest = command.partition(" ")
        state = {
            "feedback": frame.text,
            "facts": list(frame.facts),
            "admissible_commands": list(frame.commands),
        }
        with self._own_random():
            advice = self._ask(state, f"put {rest}" if verb == "move" else command)
            if advice not in frame.commands or advice == command:
                # The policy is stuck: a random command leads it elsewhere.
                advice = random.choice(frame.commands)
        self._advice = advice
        return advice

    def _ask(self, state: dict[str, Any], command: str) -> str | None:
        """The package's answer; None if its policy gives up."""
        try:
            advice: str = self._policy.act(state, command)
        except (_package.HandCodedAgentFailed, _package.HandCodedAgentTimeout):
            return None
        except (IndexError, KeyError):
            # The policy meets a room unlike those that it was written for.
            return None
        return advice

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """Let the package draw from this expert's generator.

        The package draws from Python's global generator, so its state is exchanged meanwhile.
        """
        callers = random.getstate()
        random.setstate(self._random_state)
        try:
            yield
        finally:
            self._random_state = random.getstate()
            random.setstate(callers)
