"""Does an environment keep the contract of text environments? A check that people run on their own."""

import contextlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from envs.conformance.calls import Caller, Hang, Trouble
from envs.conformance.checks import CHECKS
from envs.conformance.examination import Examination
from envs.text_env import TextEnv


class Outcome(Enum):
    """What came of one check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"
    """Something that failed before stood in its way."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at; `sentence` says what is wrong and the way out, or what there is
    to say.
    """

    name: str
    outcome: Outcome
    sentence: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was looked at in one environment."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.outcome is Outcome.FAILED)


def check_env(
    env: TextEnv | Callable[[], TextEnv],
    *,
    tasks: int = 3,
    steps: int = 20,
    seconds: float = 30.0,
    seed: int = 0,
) -> Report:
    """Make sure that an environment keeps the contract; see `examine_env`.

    Raises:
        AssertionError: it does not; a line for each thing that is wrong.
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
    """Play an environment and look at what it says and does.

    Args:
        env: a class or a function that makes the environment, or one that has not been reset yet;
            copies of it are played too.
        tasks: how many tasks to play, of all splits and families in turn.
        steps: how many commands a game gets; up to 20 times as many where an end is looked for.
        seconds: how long a call may take, and the list of tasks ten times as long. A call that
            takes longer is left behind in its thread, and nothing is looked at after it.
        seed: for the choice of commands.

    Nothing is closed that the caller has made.
    """
    caller = Caller(seconds)
    examination = Examination(env=env, caller=caller, task_count=tasks, steps=steps, seed=seed)
    checks: list[Check] = []
    said: set[str] = set()
    hung = False
    for name, look in CHECKS.items():
        if hung:
            checks.append(Check(name=name, outcome=Outcome.NOT_RUN))
            continue
        note = ""
        wrong: list[str] = []
        try:
            note = look(examination, wrong) or ""
        except Trouble as trouble:
            hung = isinstance(trouble, Hang)
            wrong.append(str(trouble))
        except (Exception, SystemExit) as error:
            # Whatever else the environment's attributes and values do when one looks at them; it
            # costs this check only.
            wrong.append(_surprise(error))
        new = [sentence for sentence in wrong if sentence not in said]
        said.update(new)
        if wrong and not new:
            checks.append(Check(name=name, outcome=Outcome.NOT_RUN, sentence="see above"))
        else:
            outcome = Outcome.FAILED if new else Outcome.PASSED
            checks.append(
                Check(
                    name=name,
                    outcome=outcome,
                    sentence=" ".join(f"{each}." for each in new) or note,
                )
            )
    if not hung:
        with contextlib.suppress(Hang):  # was looked at under "closing"
            examination.close()
    caller.close()
    return Report(checks=tuple(checks))


def _surprise(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"looking at it raised {type(error).__name__}: {error} ({last.filename}:{last.lineno}); keep to the types that "
        "envs.TextEnv tells, and let its attributes and values be read and compared"
    )
