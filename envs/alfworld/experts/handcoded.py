"""The expert of the alfworld package, made to work on its own engine and along somebody else's
commands.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from envs.alfworld.engines.engine import Frame
from envs.alfworld.names import LOOK
from envs.alfworld.package import import_alfworld

_package = import_alfworld("alfworld.agents.expert")

_POLICY_STEPS = 1000
_HARMLESS = ("look", "inventory", "help", "examine")


class HandcodedExpert:
    """Says what to do next in one episode, from the engine's states and the commands that were
    really sent.

    Unlike the package's own wrapper it needs no `traj_data.json`, gives its first advice at the
    reset, draws its random choices from a generator of its own, and notices that its object has
    left its hands (the command has been `move` since alfworld 0.4.0, while the package's policy
    still looks for `put`).

    Of the facts it is shown the few that it looks at, in one order: the package takes the first
    that fits.
    """

    def __init__(self, game_id: str, seed: int) -> None:
        """`game_id` begins with `family-Object-MovableReceptacle-Receptacle-scene`, which says what
        the task is.
        """
        family, target, _, place, *_ = game_id.partition("/")[0].lower().split("-")
        look = family == LOOK
        params = {
            "task_type": family,
            "object_target": target,
            "parent_target": "" if look else place,
            "toggle_target": place if look else "",
        }
        self._policy = _package.HandCodedTWAgent().get_task_policy(params)(
            params, max_steps=_POLICY_STEPS
        )
        self._policy.get_facts = lambda state: state["facts"]
        self._random_state = random.Random(f"{seed}:{game_id}").getstate()
        self._advice: str | None = None

    def start(self, frame: Frame) -> str | None:
        """The first advice, from the frame after the reset."""
        return self._think(frame, "")

    def advise(self, frame: Frame, command: str) -> str | None:
        """The next advice, after `command` has led to `frame`; None where the expert has none."""
        command = command.strip()
        failed = frame.text == "Nothing happens."
        harmless = command.split(" ", 1)[0] in _HARMLESS
        if self._advice is not None and command != self._advice and (failed or harmless):
            # Nothing has changed, and the text of such commands would make the policy forget what
            # it sees.
            return self._advice
        return self._think(frame, command)

    def _think(self, frame: Frame, command: str) -> str | None:
        verb, _, rest = command.partition(" ")
        state = {
            "feedback": frame.text,
            "facts": list(frame.facts),
            "admissible_commands": list(frame.commands),
        }
        advice: str | None
        with self._own_random():
            try:
                advice = self._policy.act(state, f"put {rest}" if verb == "move" else command)
            except (
                _package.HandCodedAgentFailed,
                _package.HandCodedAgentTimeout,
                IndexError,
                KeyError,
            ):
                # The last two: the package's policy met a room unlike those it was written for.
                advice = None
            if advice not in frame.commands or advice == command:
                advice = random.choice(frame.commands)
        self._advice = advice
        return advice

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """The package draws from the global generator: lend it ours and leave the caller's as it
        was.
        """
        callers = random.getstate()
        random.setstate(self._random_state)
        try:
            yield
        finally:
            self._random_state = random.getstate()
            random.setstate(callers)
