"""An environment that is being examined: its copies, and the games that were played in it so far."""

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.conformance.calls import Caller, Moment, Subject, Trouble
from envs.faults import is_bool
from envs.task import Task
from envs.text_env import TextEnv

NONSENSE = ("xyzzy the frotz", "", "a" * 300, '\\h "%s" {0} ~`')
LONGER = 20
"""How many times more commands a game gets where an end is looked for."""
_SAID_ANYWHERE = ("look", "help", "yes", "no", "1", "2")


@dataclass
class Examination:
    """An environment, the copies of it, and what was seen of it so far."""

    env: TextEnv | Callable[[], TextEnv]
    caller: Caller
    task_count: int
    steps: int
    seed: int
    chosen: list[Task] = field(default_factory=list)
    """The tasks that are played."""
    _walks: dict[Task, list[Moment]] = field(default_factory=dict)
    _subject: Subject | None = None
    _pristine: TextEnv | None = None
    _ours: list[TextEnv] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        """The environment that most is looked at on."""
        if self._subject is None:
            self._subject = self._first()
        return self._subject

    def another(self) -> Subject | None:
        """One more environment that nobody has played; None where there is no way to make one."""
        if not isinstance(self.env, TextEnv):
            return Subject(self._made(self.env), self.caller)
        _ = self.subject
        if self._pristine is None:
            return None
        self._ours.append(copy.deepcopy(self._pristine))
        return Subject(self._ours[-1], self.caller)

    def close(self) -> None:
        """Close what was made here. What goes wrong was looked at before, or nobody asked."""
        for env in self._ours:
            Subject(env, self.caller).attempt("close", env.close)

    def walk(self, task: Task) -> list[Moment]:
        """A game of up to `steps` commands, once played: the reset, then a moment per command.

        The commands are the expert's and random ones in turn, and now and then nonsense.
        """
        if task not in self._walks:
            rng = random.Random(f"{self.seed}:{task.id}")
            moments = [self.subject.reset(task)]
            for number in range(self.steps):
                if moments[-1].over:
                    break
                command = (
                    NONSENSE[0]
                    if number == 1
                    else choose(moments[-1], rng, follow=rng.random() < 0.5)
                )
                moments.append(self.subject.step(command))
            self._walks[task] = moments
        return self._walks[task]

    def moments(self) -> list[Moment]:
        return [moment for task in self.tasks() for moment in self.walk(task)]

    def tasks(self) -> list[Task]:
        _ = self.subject
        if not self.chosen:
            raise Trouble(
                "there is no task to play; let tasks(split) return some for the first of its splits"
            )
        return self.chosen

    def _first(self) -> Subject:
        if not isinstance(self.env, TextEnv):
            return Subject(self._made(self.env), self.caller)
        try:
            self._pristine = copy.deepcopy(self.env)
        except Exception:
            # Whatever a copy may fail with: then there are no copies, and the checks that need them
            # say so.
            self._pristine = None
        return Subject(self.env, self.caller)

    def _made(self, make: Callable[[], TextEnv]) -> TextEnv:
        try:
            made = self.caller.call("making the environment", make)
        except (Exception, SystemExit) as error:
            if isinstance(error, Trouble):
                raise
            raise Trouble(
                f"making the environment raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(made, TextEnv):
            raise Trouble(
                f"the environment is a {type(made).__name__}; make it a subclass of envs.TextEnv"
            )
        self._ours.append(made)
        return made


def choose(moment: Moment, rng: random.Random, *, follow: bool) -> str:
    """A command: the expert's if `follow` and there is one, else one that is listed, else one of a
    few words.
    """
    expert = moment.info.get("expert_command")
    if follow and isinstance(expert, str):
        return expert
    return rng.choice(moment.commands or _SAID_ANYWHERE)


def spread(found: Mapping[str, Sequence[Task]], count: int) -> list[Task]:
    """Some tasks of all splits and families in turn, the first of each before the second of any."""
    rank: dict[tuple[str, str], int] = {}
    ranked = []
    for split, tasks in found.items():
        for task in tasks:
            rank[split, task.family] = rank.get((split, task.family), -1) + 1
            ranked.append((rank[split, task.family], task))
    return [task for _, task in sorted(ranked, key=lambda pair: pair[0])[:count]]


def differ(walk: Sequence[Moment], again: Sequence[Moment]) -> str:
    """The first difference of two games of the same commands, in words; "" where there is none."""
    for number, (one, other) in enumerate(zip(walk, again, strict=True)):
        first, second = one.essence(), other.essence()
        for key in sorted({*first, *second}):
            if _comparable(first.get(key)) != _comparable(second.get(key)):
                return f"{one.where} (command {number}) gave {key} {first.get(key)!r}, then {second.get(key)!r}"
    return ""


def _comparable(value: Any) -> Any:
    """Plain values as they are; others, whose `==` may be no bool (arrays) or never hold (NaN), as
    type and text.
    """
    if is_bool(value):
        return bool(value)
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    if (
        value is None
        or isinstance(value, str | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    return type(value), repr(value)


def play_to_the_end(this: Examination, task: Task) -> list[Moment]:
    rng = random.Random(f"{this.seed}:end:{task.id}")
    moments = [this.subject.reset(task)]
    while not moments[-1].over and len(moments) <= LONGER * this.steps:
        moments.append(this.subject.step(choose(moments[-1], rng, follow=rng.random() < 0.9)))
    return moments
