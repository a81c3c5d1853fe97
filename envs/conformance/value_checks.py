"""Checks of the values that an environment returns: tasks, observations, flags, `info`, commands.

Each check appends a sentence to `problems` for each thing that is wrong. It returns a remark for
the report, if there is one.
"""

from typing import Any

from gymnasium.spaces import Text

from envs.conformance.calls import CheckStopped, Moment, short_repr
from envs.conformance.examination import Examination, first_of_each
from envs.task import Task
from envs.validation import RESET, STEP, value_faults

_TASK_LIST_FACTOR = 10
"""How many times longer than another call the list of tasks may take."""
_REFUSED_ADVICE = 0.1
"""The largest share of an expert's commands that the environment may not list as admissible.

An expert that knows no more than a policy finds some things out by trying.
"""
_UNKNOWN_SPLIT = "no such split"


def check_tasks(examination: Examination, problems: list[str]) -> str:
    """Check the splits, their tasks, `words`, and the answer to an unknown split.

    It also chooses the tasks that the other checks play.
    """
    splits = examination.subject.env.splits
    if not isinstance(splits, tuple) or not splits or len(set(splits)) != len(splits):
        raise CheckStopped(
            f"splits is {splits!r}; make it a tuple of different names, such as ('train', 'valid')"
        )
    tasks = {split: _tasks_of(examination, split, problems) for split in splits}
    if not tasks[splits[0]]:
        problems.append(
            f"split {splits[0]!r} has no task; let tasks(split) return some for the first of splits"
        )
    examination.chosen_tasks = first_of_each(tasks, examination.task_count)
    _check_unknown_split(examination, problems)
    _check_words(examination, problems)
    return ", ".join(f"{split}: {len(found)}" for split, found in tasks.items())


def _tasks_of(examination: Examination, split: str, problems: list[str]) -> list[Task]:
    """The tasks of a split, asked for twice; none if `tasks` raises ValueError."""
    call = f"tasks({split!r})"
    tasks, error = _call_tasks(examination, split)
    if error is None:
        again, error = _call_tasks(examination, split)
    if error is not None:
        raised = f"{call} raised {type(error).__name__}: {error}"
        if split == examination.subject.env.splits[0]:
            raise CheckStopped(f"{raised}; the first of splits must have tasks") from error
        if not isinstance(error, ValueError):
            problems.append(
                f"{raised}; return the tasks of each of splits, or raise ValueError if there is "
                "none"
            )
        return []
    if not isinstance(tasks, list) or not all(isinstance(task, Task) for task in tasks):
        raise CheckStopped(f"{call} does not return a list of envs.Task; return one")
    if tasks != again:
        problems.append(
            f"{call} returned other tasks at the second call; draw them from a seed that stays the "
            "same"
        )
    if len({task.id for task in tasks}) < len(tasks):
        problems.append(f"{call} has two tasks with one id; give each a different id")
    if any(task.split != split for task in tasks):
        problems.append(
            f"{call} has a task of another split; set Task.split to the split that was asked for"
        )
    return tasks


def _call_tasks(examination: Examination, split: str) -> tuple[Any, BaseException | None]:
    subject = examination.subject
    return subject.attempt(
        f"tasks({split!r})",
        lambda: subject.env.tasks(split),
        seconds=_TASK_LIST_FACTOR * examination.caller.seconds,
    )


def _check_unknown_split(examination: Examination, problems: list[str]) -> None:
    subject = examination.subject
    call = f"tasks({_UNKNOWN_SPLIT!r})"
    returned, error = subject.attempt(call, lambda: subject.env.tasks(_UNKNOWN_SPLIT))
    if isinstance(error, ValueError):
        return
    if error is not None:
        result = f"raised {type(error).__name__}"
    elif isinstance(returned, list):
        result = f"returned {len(returned)} tasks"
    else:
        result = f"returned {short_repr(returned)}"
    problems.append(f"{call} {result}; raise ValueError for an unknown split")


def _check_words(examination: Examination, problems: list[str]) -> None:
    subject = examination.subject
    words, error = subject.attempt("words()", lambda: subject.env.words())
    if error is not None:
        problems.append(
            f"words() raised {type(error).__name__}: {error}; return a list of texts, or leave the "
            "method out"
        )
    elif not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        problems.append(
            "words() does not return a list of texts; return one, or leave the method out"
        )


def check_resets(examination: Examination, problems: list[str]) -> None:
    """Check that each reset returns a text, and that no episode begins as a success."""
    for task in examination.tasks():
        first = examination.walk(task)[0]
        if not isinstance(first.observation, str) or not first.observation.strip():
            problems.append(
                f"reset returned the observation {short_repr(first.observation)}; return a text "
                "that says what there is to do"
            )
            return
        if first.success:
            problems.append(
                "reset says success: True; an episode cannot be won before the first command"
            )
            return


def check_types(examination: Examination, problems: list[str]) -> None:
    """Check the types of all values; each kind of value is reported once."""
    first_errors: dict[str, str] = {}
    for moment in examination.moments():
        for name, sentence in _type_errors(moment).items():
            first_errors.setdefault(name, sentence)
    problems.extend(first_errors.values())


def _type_errors(moment: Moment) -> dict[str, str]:
    """Say what is wrong with the values of a moment, by name.

    These are the faults that end an episode in training, and commands that are empty or listed
    twice, which only confuse a policy.
    """
    names = RESET if moment.command is None else STEP
    values = {name: getattr(moment, name) for name in names}
    errors: dict[str, str] = {}
    for name, fault in value_faults(values).items():
        value = values.get(name, moment.info.get(name))
        errors[name] = f"{moment.call} {fault} (it was {short_repr(value)})"
    commands = moment.commands or []
    is_odd = not all(commands) or len(set(commands)) < len(commands)
    if is_odd and "admissible_commands" not in errors:
        errors["admissible_commands"] = (
            f"{moment.call} returned the admissible_commands {short_repr(commands)}; return a list "
            "of different texts that are not empty, or leave the key out"
        )
    return errors


def check_texts(examination: Examination, problems: list[str]) -> None:
    """Check that the observations are in `observation_space`."""
    space = examination.subject.env.observation_space
    if not isinstance(space, Text):
        raise CheckStopped(
            f"observation_space is {space}; make it a gymnasium.spaces.Text, or leave it as it is"
        )
    for moment in examination.moments():
        text = moment.observation
        # The check of types has reported an observation that is not a text.
        if "observation" in _type_errors(moment) or text in space:
            continue
        if len(text) > space.max_length:
            reason = (
                f"it has {len(text)} characters and the space allows {space.max_length}; shorten it"
            )
        else:
            strange = sorted(set(text) - space.character_set)
            reason = (
                f"it has {strange[:5]}, which the space does not; replace them or widen "
                "observation_space"
            )
        problems.append(
            f"{moment.call} returned an observation outside observation_space: {reason}"
        )
        return


def check_commands(examination: Examination, problems: list[str]) -> str:
    """Check that the admissible commands are in `action_space`, and that they hold the advice."""
    space = examination.subject.env.action_space
    for moment in examination.moments():
        outside = [command for command in moment.commands or () if command not in space]
        if outside:
            problems.append(
                f"{moment.call} lists the command {outside[0]!r}, which is not in action_space; "
                "widen action_space"
            )
            break
    check_advice(examination.moments(), problems)
    first = examination.walk(examination.tasks()[0])[0]
    lists = "lists its commands" if first.commands is not None else "lists no commands"
    expert = "has an" if first.info.get("expert_command") is not None else "shows no"
    return f"{lists}, {expert} expert"


def check_advice(moments: list[Moment], problems: list[str]) -> None:
    """Check that nearly all commands of the expert are among the admissible ones."""
    count = 0
    refused: list[tuple[Moment, str]] = []
    for moment in moments:
        advice = moment.info.get("expert_command")
        if moment.commands is None or moment.over or not isinstance(advice, str):
            continue
        count += 1
        if advice not in moment.commands:
            refused.append((moment, advice))
    if len(refused) > _REFUSED_ADVICE * count:
        moment, advice = refused[0]
        problems.append(
            f"{moment.call} gives the expert_command {advice!r}, which it does not list as "
            f"admissible; this happens to {len(refused)} of {count} commands of the expert"
        )
