"""The examination of one environment: its copies, and the games that were played so far."""

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.conformance.calls import Caller, CheckStopped, Moment, Subject
from envs.task import Task
from envs.text_env import TextEnv
from envs.validation import is_bool

NONSENSE = ("xyzzy the frotz", "", "a" * 300, '\\h "%s" {0} ~`')
"""Commands that mean nothing: unknown words, no text, a very long one, special characters."""
LONG_GAME_FACTOR = 20
"""How many times more commands a game gets when it is played until it ends."""
_COMMON_COMMANDS = ("look", "help", "yes", "no", "1", "2")
"""Commands for environments that list none."""


@dataclass
class Examination:
    """An environment, its copies, and the games played in them. All checks share one."""

    env: TextEnv | Callable[[], TextEnv]
    """The environment, or a class or function that makes it."""
    caller: Caller
    """Makes all calls into the environment."""
    task_count: int
    """How many tasks to play."""
    steps: int
    """How many commands a game gets."""
    seed: int
    """The seed of the choice of commands."""
    chosen_tasks: list[Task] = field(default_factory=list)
    """The tasks to play; the first check fills them in."""
    _walks: dict[Task, list[Moment]] = field(default_factory=dict)
    """The games that `walk` has played, by task."""
    _subject: Subject | None = None
    _pristine: TextEnv | None = None
    """A copy of a given environment that is never played; None if it cannot be copied."""
    _own_envs: list[TextEnv] = field(default_factory=list)
    """The environments that the examination has made, which it closes at the end."""

    @property
    def subject(self) -> Subject:
        """The environment that most checks play."""
        if self._subject is None:
            self._subject = self._first_subject()
        return self._subject

    def another(self) -> Subject | None:
        """Make a second environment that nobody has played; None if that is impossible."""
        if not isinstance(self.env, TextEnv):
            return Subject(self._build(self.env), self.caller)
        _ = self.subject  # makes the pristine copy, before the environment is played
        if self._pristine is None:
            return None
        self._own_envs.append(copy.deepcopy(self._pristine))
        return Subject(self._own_envs[-1], self.caller)

    def close(self) -> None:
        """Close the environments that were made here.

        Errors are ignored, since one check is about closing.
        """
        for env in self._own_envs:
            Subject(env, self.caller).attempt("close", env.close)

    def walk(self, task: Task) -> list[Moment]:
        """A game of up to `steps` commands: the moment of the reset, then one for each command.

        It is played at the first call only. Half of the commands are the expert's, if there is one;
        the others are random. The second command means nothing.
        """
        if task not in self._walks:
            rng = random.Random(f"{self.seed}:{task.id}")
            moments = [self.subject.reset(task)]
            for number in range(self.steps):
                if moments[-1].over:
                    break
                if number == 1:
                    command = NONSENSE[0]
                else:
                    command = choose_command(moments[-1], rng, follow=rng.random() < 0.5)
                moments.append(self.subject.step(command))
            self._walks[task] = moments
        return self._walks[task]

    def play_to_the_end(self, task: Task) -> list[Moment]:
        """A game that mostly follows the expert, until it ends or has 20 times `steps` commands."""
        rng = random.Random(f"{self.seed}:end:{task.id}")
        moments = [self.subject.reset(task)]
        while not moments[-1].over and len(moments) <= LONG_GAME_FACTOR * self.steps:
            command = choose_command(moments[-1], rng, follow=rng.random() < 0.9)
            moments.append(self.subject.step(command))
        return moments

    def moments(self) -> list[Moment]:
        """All moments of the walks through all chosen tasks."""
        return [moment for task in self.tasks() for moment in self.walk(task)]

    def tasks(self) -> list[Task]:
        """The tasks to play.

        Raises:
            CheckStopped: there are none.
        """
        _ = self.subject  # an environment that cannot be made is the more useful message
        if not self.chosen_tasks:
            raise CheckStopped(
                "there is no task to play; let tasks(split) return some for the first of its splits"
            )
        return self.chosen_tasks

    def _first_subject(self) -> Subject:
        if not isinstance(self.env, TextEnv):
            return Subject(self._build(self.env), self.caller)
        try:
            self._pristine = copy.deepcopy(self.env)
        except Exception:
            # A copy may fail with any error. The checks that need copies then say so.
            self._pristine = None
        return Subject(self.env, self.caller)

    def _build(self, make: Callable[[], TextEnv]) -> TextEnv:
        try:
            env = self.caller.call("making the environment", make)
        except (Exception, SystemExit) as error:
            if isinstance(error, CheckStopped):
                raise
            raise CheckStopped(
                f"making the environment raised {type(error).__name__}: {error}"
            ) from error
        if not isinstance(env, TextEnv):
            raise CheckStopped(
                f"the environment is a {type(env).__name__}; make it a subclass of envs.TextEnv"
            )
        self._own_envs.append(env)
        return env


def choose_command(moment: Moment, rng: random.Random, *, follow: bool) -> str:
    """Choose the next command.

    Args:
        moment: the last answer of the environment.
        rng: draws one of the admissible commands, or of a few common ones if none are listed.
        follow: take the expert's command instead, if there is one.
    """
    expert = moment.info.get("expert_command")
    if follow and isinstance(expert, str):
        return expert
    return rng.choice(moment.commands or _COMMON_COMMANDS)


def first_of_each(tasks_by_split: Mapping[str, Sequence[Task]], count: int) -> list[Task]:
    """Choose `count` tasks: the first of each family in each split, then the second, and so on."""
    tasks_so_far: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Task]] = []
    for split, tasks in tasks_by_split.items():
        for task in tasks:
            ranked.append((tasks_so_far[split, task.family], task))
            tasks_so_far[split, task.family] += 1
    ranked.sort(key=lambda pair: pair[0])  # stable: tasks of one rank keep their order
    return [task for _, task in ranked[:count]]


def first_difference(game: Sequence[Moment], replay: Sequence[Moment]) -> str:
    """Say where two games of the same commands first differ; "" if they are equal."""
    for number, (earlier, later) in enumerate(zip(game, replay, strict=True)):
        before, after = earlier.compared_values(), later.compared_values()
        for key in sorted({*before, *after}):
            old, new = before.get(key), after.get(key)
            if _comparable(old) != _comparable(new):
                return f"{earlier.call} (command {number}) gave {key} {old!r}, then {new!r}"
    return ""


def _comparable(value: Any) -> Any:
    """Turn a value into one whose `==` returns a bool.

    An array's `==` returns an array, and NaN is not equal to itself: both become type and text.
    """
    if is_bool(value):
        return bool(value)
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return type(value), repr(value)
