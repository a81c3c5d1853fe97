"""The conformance check: does an environment keep the contract of `TextEnv`?

Example: `check_env(MyEnv)` in a test raises an AssertionError that lists what is wrong.
"""

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from envs.conformance.calls import Caller, CheckStopped, Hang
from envs.conformance.examination import Examination
from envs.conformance.play_checks import (
    check_before_the_first_reset,
    check_clones,
    check_closing,
    check_endings,
    check_nonsense,
    check_output,
    check_repetition,
    check_two_at_once,
)
from envs.conformance.value_checks import (
    check_commands,
    check_resets,
    check_tasks,
    check_texts,
    check_types,
)
from envs.text_env import TextEnv

CHECKS: dict[str, Callable[[Examination, list[str]], str | None]] = {
    "tasks": check_tasks,
    "before the first reset": check_before_the_first_reset,
    "reset": check_resets,
    "types": check_types,
    "texts": check_texts,
    "commands": check_commands,
    "commands that mean nothing": check_nonsense,
    "same seed, same game": check_repetition,
    "two at once": check_two_at_once,
    "endings": check_endings,
    "clone": check_clones,
    "closing": check_closing,
    "prints nothing": check_output,
}
"""The checks by their names in the report, in the order in which they run.

A check gets the examination and a list to which it appends a sentence for each problem. It may
return a remark.
"""


class Outcome(Enum):
    """The result of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    """An earlier failure made the check impossible, or is all that it found."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check, with a text for the reader."""

    name: str
    """The name of the check."""
    outcome: Outcome
    """Its result."""
    sentence: str = ""
    """For a failed check what is wrong and how to mend it, else a remark; "" for none."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of all checks of one environment."""

    checks: tuple[Check, ...]
    """The results, in the order of the checks."""

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)


def check_env(
    env: TextEnv | Callable[[], TextEnv],
    *,
    tasks: int = 3,
    steps: int = 20,
    seconds: float = 30.0,
    seed: int = 0,
) -> Report:
    """Assert that an environment keeps the contract.

    Args:
        env: the environment, or a class or function that makes it; see `examine_env`.
        tasks: how many tasks to play.
        steps: how many commands a game gets.
        seconds: how long a call may take.
        seed: the seed of the choice of commands.

    Raises:
        AssertionError: it does not keep the contract; the message has a line for each failure.
    """
    report = examine_env(env, tasks=tasks, steps=steps, seconds=seconds, seed=seed)
    if not report.passed:
        lines = "\n".join(f"- {check.name}: {check.sentence}" for check in report.failures)
        raise AssertionError(
            f"the environment does not keep the contract of envs.TextEnv:\n{lines}"
        )
    return report


def examine_env(
    env: TextEnv | Callable[[], TextEnv],
    *,
    tasks: int = 3,
    steps: int = 20,
    seconds: float = 30.0,
    seed: int = 0,
) -> Report:
    """Play an environment and report what it does against the contract.

    Args:
        env: a class or a function that makes the environment, or an environment that has not been
            reset yet. Copies are played, too. An environment of the caller is not closed.
        tasks: how many tasks to play; splits and families take turns.
        steps: how many commands a game gets. One that is played until it ends gets up to 20 times
            as many.
        seconds: how long a call may take; the list of tasks may take ten times as long. A call that
            takes longer is left behind in its thread, and the checks after it are not run.
        seed: the seed of the choice of commands.
    """
    caller = Caller(seconds)
    examination = Examination(env=env, caller=caller, task_count=tasks, steps=steps, seed=seed)
    checks: list[Check] = []
    reported: set[str] = set()
    hung = False
    for name in CHECKS:
        if hung:
            checks.append(Check(name=name, outcome=Outcome.NOT_RUN))
            continue
        remark, problems, hung = _run_check(name, examination)
        checks.append(_result(name, remark, problems, reported))
        reported.update(problems)
    if not hung:
        with contextlib.suppress(Hang):  # the check of closing has reported it
            examination.close()
    caller.close()
    return Report(checks=tuple(checks))


def _run_check(name: str, examination: Examination) -> tuple[str, list[str], bool]:
    """Run one check: its remark, its problems, and whether a call hung."""
    problems: list[str] = []
    try:
        remark = CHECKS[name](examination, problems) or ""
    except CheckStopped as error:
        problems.append(str(error))
        return "", problems, isinstance(error, Hang)
    except (Exception, SystemExit) as error:
        # The environment's attributes and values may raise anything when they are read. That ends
        # this check only.
        problems.append(_surprise(error))
        return "", problems, False
    return remark, problems, False


def _result(name: str, remark: str, problems: list[str], reported: set[str]) -> Check:
    """The result of a check; a problem that an earlier check has reported is left out."""
    new_problems = [problem for problem in problems if problem not in reported]
    if new_problems:
        sentence = " ".join(f"{problem}." for problem in new_problems)
        return Check(name=name, outcome=Outcome.FAILED, sentence=sentence)
    if problems:
        return Check(name=name, outcome=Outcome.NOT_RUN, sentence="see above")
    return Check(name=name, outcome=Outcome.PASSED, sentence=remark)


def _surprise(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"reading its attributes or values raised {type(error).__name__}: {error} "
        f"({last.filename}:{last.lineno}); use the types that envs.TextEnv documents, and let "
        "attributes and values be read and compared"
    )
