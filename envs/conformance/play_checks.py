"""Checks of an environment's behaviour: equal replays, endings, clones, closing, output.

Each check appends a sentence to `problems` for each thing that is wrong. It returns a remark for
the report, if there is one.
"""

from functools import partial

from gymnasium.error import ResetNeeded

from envs.conformance.calls import (
    CheckStopped,
    Hang,
    Moment,
    Subject,
    moment_of,
    short_repr,
    truthy,
)
from envs.conformance.examination import LONG_GAME_FACTOR, NONSENSE, Examination, first_difference
from envs.task import Task
from envs.text_env import TextEnv

_NO_COPY = (
    "not looked at: the environment cannot be copied; give the class or a function that makes it"
)


def check_before_the_first_reset(examination: Examination, problems: list[str]) -> str:
    """Check that a `step` before the first `reset` raises."""
    subject = examination.another()
    if subject is None:
        return _NO_COPY
    returned, error = subject.attempt(
        "step before the first reset", lambda: subject.env.step("look")
    )
    if error is None:
        problems.append(
            f"step before the first reset returned {type(returned).__name__} as if an episode were "
            "under way; raise gymnasium.error.ResetNeeded"
        )
    if isinstance(error, ResetNeeded):
        return ""
    return "it raises, though not gymnasium.error.ResetNeeded"


def check_nonsense(examination: Examination, problems: list[str]) -> None:
    """Check that commands without meaning are answered and do not end the episode."""
    subject, task = examination.subject, examination.tasks()[0]
    admissible = examination.walk(task)[0].commands
    subject.reset(task)
    for command in NONSENSE:
        is_short = len(command) < 50
        text = command if is_short else f"{command[:10]}... ({len(command)} characters)"
        call = f"step({text!r})"
        returned, error = subject.attempt(call, partial(subject.env.step, command))
        if error is not None:
            problems.append(
                f"{call} raised {type(error).__name__}: {error}; answer a command that means "
                "nothing with a text, such as 'Nothing happens.'"
            )
            return
        if moment_of(command, returned).over:
            if admissible is not None and command not in admissible:
                problems.append(
                    f"{call} ended the episode though it is not admissible; let the episode go on"
                )
            return


def check_repetition(examination: Examination, problems: list[str]) -> None:
    """Check that the same seed and commands give the same game in the same environment."""
    for task in examination.tasks():
        walk = examination.walk(task)
        # Reset twice: a reset in the middle of an episode must begin a new one.
        examination.subject.reset(task)
        replay = examination.subject.play(task, _commands_of(walk))
        difference = first_difference(walk, replay)
        if difference:
            problems.append(
                f"the same seed and commands gave another game the second time: {difference}; draw "
                "all chance from a generator that reset seeds, and let reset set everything back"
            )
            return


def check_two_at_once(examination: Examination, problems: list[str]) -> str:
    """Check that two environments, played in turn, do the same as each does alone."""
    first, second = examination.another(), examination.another()
    if first is None or second is None:
        return _NO_COPY
    walks = [examination.walk(examination.tasks()[number]) for number in (0, -1)]
    replays = [
        [first.reset(examination.tasks()[0])],
        [second.reset(examination.tasks()[-1])],
    ]
    # One command in the first environment, one in the second, and so on. State or chance that they
    # share then shows as a difference from the walks, in which each was played alone.
    for number in range(1, max(len(walk) for walk in walks)):
        for subject, walk, replay in zip((first, second), walks, replays, strict=True):
            if number < len(walk):
                replay.append(subject.step(walk[number].command))
    for walk, replay in zip(walks, replays, strict=True):
        difference = first_difference(walk, replay)
        if difference:
            problems.append(
                f"two environments played in turn disturb each other: {difference}; keep all state "
                "in self, and chance in a generator in self (not in the module random, a class or "
                "a global)"
            )
            break
    return ""


def check_endings(examination: Examination, problems: list[str]) -> str:
    """Check that the flags agree with each other, and that an ended episode stays ended."""
    ended: list[str] = []
    for task in examination.tasks():
        game = examination.play_to_the_end(task)
        for moment in [*examination.walk(task), *game]:
            sentence = _flag_error(moment)
            if sentence:
                problems.append(sentence)
                return ""
        if game[-1].over:
            ended.append("success" if game[-1].success else "no success")
            _check_after_the_end(examination, task, problems)
        if problems:
            return ""
    if not ended:
        return (
            f"not looked at: no game ended within {LONG_GAME_FACTOR * examination.steps} commands"
        )
    return "games that ended: " + ", ".join(ended)


def _flag_error(moment: Moment) -> str:
    """Say which flags of a moment contradict each other; "" if none do."""
    if moment.success and not truthy(moment.terminated):
        return (
            f"{moment.call} says success without terminated; return terminated=True when the task "
            "is done"
        )
    if truthy(moment.terminated) and truthy(moment.truncated):
        return (
            f"{moment.call} says terminated and truncated at once; truncated is only for an "
            "episode that is cut short before it is decided"
        )
    return ""


def _check_after_the_end(examination: Examination, task: Task, problems: list[str]) -> None:
    """Check one `step` and one `reset` after the end of an episode."""
    subject = examination.subject
    returned, error = subject.attempt("step after the end", lambda: subject.env.step("look"))
    if error is None and not moment_of("look", returned).over:
        problems.append(
            "step after the end answered as if the episode were not over; raise "
            "gymnasium.error.ResetNeeded, or say again that it is over"
        )
        return
    if first_difference(examination.walk(task)[:1], [subject.reset(task)]):
        problems.append(
            "reset after the end of an episode gave another beginning; let reset set everything "
            "back"
        )


def check_clones(examination: Examination, problems: list[str]) -> str:
    """Check that a clone continues from the same state, and that neither disturbs the other."""
    subject, task = examination.subject, examination.tasks()[0]
    # Both begin in the middle of a known game, and each must end as that game did.
    walk = examination.walk(task)
    half = len(walk) // 2
    beginning = subject.play(task, _commands_of(walk[:half]))
    returned, error = subject.attempt("clone", subject.env.clone)
    if isinstance(error, NotImplementedError):
        return "it cannot be copied, and says so"
    if error is not None:
        problems.append(
            f"clone raised {type(error).__name__}: {error}; raise NotImplementedError if the "
            "environment cannot be copied"
        )
        return ""
    if not isinstance(returned, TextEnv):
        problems.append(
            f"clone returned {short_repr(returned)}; return a second environment, or raise "
            "NotImplementedError"
        )
        return ""
    twin = Subject(returned, examination.caller)
    difference = _difference_of_twins(subject, twin, walk, beginning)
    if difference:
        problems.append(
            f"a clone and its original disturb each other: {difference}; copy all state in clone"
        )
    twin.attempt("close", twin.env.close)
    return "it can be copied"


def _difference_of_twins(
    subject: Subject, twin: Subject, walk: list[Moment], beginning: list[Moment]
) -> str:
    """Play the rest of a walk in two environments in turn; say where one differs from the walk."""
    subject_game, twin_game = list(beginning), list(beginning)
    try:
        for moment in walk[len(beginning) :]:
            subject_game.append(subject.step(moment.command))
            twin_game.append(twin.step(moment.command))
        return first_difference(walk, subject_game) or first_difference(walk, twin_game)
    except Hang:
        raise
    except CheckStopped as error:
        return str(error)


def check_closing(examination: Examination, problems: list[str]) -> str:
    """Check that an environment can be closed twice."""
    subject = examination.another()
    if subject is None:
        return _NO_COPY
    subject.reset(examination.tasks()[0])
    for count in ("the first time", "the second time"):
        _, error = subject.attempt("close", subject.env.close)
        if error is not None:
            problems.append(
                f"close raised {type(error).__name__} {count}: {error}; closing twice must do no "
                "harm"
            )
            break
    return ""


def check_output(examination: Examination, problems: list[str]) -> None:
    """Check that no call has printed anything."""
    for label, text in examination.caller.printed.items():
        problems.append(f"{label} printed {text.strip()[:40]!r}; print nothing, or use logging")
        return


def _commands_of(walk: list[Moment]) -> list[str]:
    """The commands of a game, without the reset at its beginning."""
    return [moment.command for moment in walk[1:]]
