"""What the conformance check looks at, one function each; they write what is wrong into a list of
sentences.
"""

from collections.abc import Callable
from functools import partial

from gymnasium.error import ResetNeeded
from gymnasium.spaces import Text

from envs.conformance.calls import Hang, Moment, Subject, Trouble, holds, moment_of, shown
from envs.conformance.examination import (
    LONGER,
    NONSENSE,
    Examination,
    differ,
    play_to_the_end,
    spread,
)
from envs.faults import RESET, STEP, value_faults
from envs.task import Task
from envs.text_env import TextEnv

Wrong = list[str]
LONGER_LIST = 10
"""How many times longer than another call the list of tasks may take."""
_REFUSED_ADVICE = 0.1
"""The share of an expert's commands that may be none of those listed."""
_NOT_A_SPLIT = "no such split"


def look_at_tasks(this: Examination, wrong: Wrong) -> str:
    """Types, uniqueness and stability of the tasks, and what unknown splits are answered with."""
    env = this.subject.env
    if (
        not isinstance(env.splits, tuple)
        or not env.splits
        or len(set(env.splits)) != len(env.splits)
    ):
        raise Trouble(
            f"splits is {env.splits!r}; make it a tuple of different names, such as ('train', 'valid')"
        )
    found = {split: _tasks_of(this, split, wrong) for split in env.splits}
    if not found[env.splits[0]]:
        wrong.append(
            f"split {env.splits[0]!r} has no task; let tasks(split) return some for the first of splits"
        )
    this.chosen = spread(found, this.task_count)
    returned, error = this.subject.attempt(
        f"tasks({_NOT_A_SPLIT!r})", lambda: env.tasks(_NOT_A_SPLIT)
    )
    if not isinstance(error, ValueError):
        count = f"{len(returned)} tasks" if isinstance(returned, list) else shown(returned)
        what = f"raised {type(error).__name__}" if error is not None else f"returned {count}"
        wrong.append(
            f"tasks({_NOT_A_SPLIT!r}) {what}; raise ValueError for a split that is not known"
        )
    words, error = this.subject.attempt("words()", lambda: env.words())
    if error is not None:
        wrong.append(
            f"words() raised {type(error).__name__}: {error}; return a list of texts, or leave the method out"
        )
    elif not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        wrong.append("words() does not return a list of texts; return one, or leave the method out")
    return ", ".join(f"{split}: {len(tasks)}" for split, tasks in found.items())


def _tasks_of(this: Examination, split: str, wrong: Wrong) -> list[Task]:
    subject, env = this.subject, this.subject.env
    returned = []
    for _ in range(2):
        tasks, error = subject.attempt(
            f"tasks({split!r})", lambda: env.tasks(split), seconds=LONGER_LIST * this.caller.seconds
        )
        returned.append(tasks)
        if error is not None:
            raised = f"tasks({split!r}) raised {type(error).__name__}: {error}"
            if split == env.splits[0]:
                raise Trouble(f"{raised}; the first of splits must have tasks") from error
            if not isinstance(error, ValueError):
                wrong.append(
                    f"{raised}; return the tasks of each of splits, or raise ValueError where there is none"
                )
            return []
    tasks, again = returned
    if not isinstance(tasks, list) or not all(isinstance(task, Task) for task in tasks):
        raise Trouble(f"tasks({split!r}) does not return a list of envs.Task; return one")
    if tasks != again:
        wrong.append(
            f"tasks({split!r}) returned others at the second call; draw them from a seed that stays the same"
        )
    if len({task.id for task in tasks}) < len(tasks):
        wrong.append(f"tasks({split!r}) has two tasks with one id; give each an id of its own")
    if any(task.split != split for task in tasks):
        wrong.append(
            f"tasks({split!r}) has a task of another split; set Task.split to the split that was asked for"
        )
    return tasks


def look_before_the_first_reset(this: Examination, wrong: Wrong) -> str:
    subject = this.another()
    if subject is None:
        return "not looked at: the environment cannot be copied; give the class or a function that makes it"
    returned, error = subject.attempt(
        "step before the first reset", lambda: subject.env.step("look")
    )
    if error is None:
        wrong.append(
            f"step before the first reset returned {type(returned).__name__} as if an episode were under way; raise "
            "gymnasium.error.ResetNeeded"
        )
    return (
        ""
        if isinstance(error, ResetNeeded)
        else "it raises, though not gymnasium.error.ResetNeeded"
    )


def look_at_resets(this: Examination, wrong: Wrong) -> None:
    for task in this.tasks():
        first = this.walk(task)[0]
        if not isinstance(first.observation, str) or not first.observation.strip():
            wrong.append(
                f"reset returned the observation {shown(first.observation)}; return a text that says what there is "
                "to do"
            )
            return
        if first.success:
            wrong.append(
                "reset says success: True; an episode cannot be won before the first command"
            )
            return


def look_at_types(this: Examination, wrong: Wrong) -> None:
    found: dict[str, str] = {}
    for moment in this.moments():
        for kind, sentence in _type_errors(moment).items():
            found.setdefault(kind, sentence)
    wrong.extend(found.values())


def _type_errors(moment: Moment) -> dict[str, str]:
    """What ends an episode in training, and what would only puzzle there."""
    values = {name: getattr(moment, name) for name in (RESET if moment.command is None else STEP)}
    faults = value_faults(values)
    errors = {
        name: f"{moment.where} {fault} (it was {shown(values.get(name, moment.info.get(name)))})"
        for name, fault in faults.items()
    }
    listed = moment.commands or []
    if "admissible_commands" not in errors and (not all(listed) or len(set(listed)) < len(listed)):
        errors["admissible_commands"] = (
            f"{moment.where} returned the admissible_commands {shown(listed)}; return a list of different texts that "
            "are not empty, or leave the key out"
        )
    return errors


def look_at_texts(this: Examination, wrong: Wrong) -> None:
    space = this.subject.env.observation_space
    if not isinstance(space, Text):
        raise Trouble(
            f"observation_space is {space}; make it a gymnasium.spaces.Text, or leave it as it is"
        )
    for moment in this.moments():
        text = moment.observation
        if "observation" in _type_errors(moment) or text in space:
            continue
        if len(text) > space.max_length:
            way_out = (
                f"it has {len(text)} characters and the space allows {space.max_length}; shorten it"
            )
        else:
            strange = sorted(set(text) - space.character_set)
            way_out = f"it has {strange[:5]}, which the space does not; replace them or widen observation_space"
        wrong.append(f"{moment.where} returned an observation outside observation_space: {way_out}")
        return


def look_at_commands(this: Examination, wrong: Wrong) -> str:
    space = this.subject.env.action_space
    for moment in this.moments():
        outside = [command for command in moment.commands or () if command not in space]
        if outside:
            wrong.append(
                f"{moment.where} lists the command {outside[0]!r}, which is not in action_space; widen that"
            )
            break
    look_at_advice(this, wrong)
    first = this.walk(this.tasks()[0])[0]
    told = "lists its commands" if first.commands is not None else "lists no commands"
    return (
        f"{told}, {'has an' if first.info.get('expert_command') is not None else 'shows no'} expert"
    )


def look_at_advice(this: Examination, wrong: Wrong) -> None:
    """An expert that knows no more than a policy finds some things out by trying; most of its
    advice is listed.
    """
    given = [
        (moment, expert)
        for moment in this.moments()
        if moment.commands is not None and not moment.over
        for expert in [moment.info.get("expert_command")]
        if isinstance(expert, str)
    ]
    refused = [
        (moment, expert) for moment, expert in given if expert not in (moment.commands or ())
    ]
    if len(refused) > _REFUSED_ADVICE * len(given):
        moment, expert = refused[0]
        wrong.append(
            f"{moment.where} gives the expert_command {expert!r}, which it does not list as admissible; so it is with "
            f"{len(refused)} of {len(given)} commands of the expert"
        )


def look_at_nonsense(this: Examination, wrong: Wrong) -> None:
    """A command that means nothing is answered, and the episode goes on."""
    subject = this.subject
    listed = this.walk(this.tasks()[0])[0].commands
    subject.reset(this.tasks()[0])
    for command in NONSENSE:
        shown = command if len(command) < 50 else f"{command[:10]}... ({len(command)} characters)"
        returned, error = subject.attempt(f"step({shown!r})", partial(subject.env.step, command))
        if error is not None:
            wrong.append(
                f"step({shown!r}) raised {type(error).__name__}: {error}; answer a command that means nothing with a "
                "text, such as 'Nothing happens.'"
            )
            return
        moment = moment_of(command, returned)
        if moment.over and listed is not None and command not in listed:
            wrong.append(
                f"step({shown!r}) ended the episode though it is not admissible; let the episode go on"
            )
            return
        if moment.over:
            return


def look_at_repetition(this: Examination, wrong: Wrong) -> None:
    """The same seed and commands give the same game, in the same environment."""
    for task in this.tasks():
        walk = this.walk(task)
        this.subject.reset(task)
        again = [
            this.subject.reset(task),
            *(this.subject.step(moment.command) for moment in walk[1:]),
        ]
        difference = differ(walk, again)
        if difference:
            wrong.append(
                f"the same seed and commands gave another game the second time: {difference}; draw all chance from a "
                "generator that reset seeds, and let reset set everything back"
            )
            return


def look_at_two_at_once(this: Examination, wrong: Wrong) -> str:
    """Two environments that are played in turn do what each does alone."""
    tasks = [this.tasks()[0], this.tasks()[-1]]
    pair = [this.another(), this.another()]
    subjects = [subject for subject in pair if subject is not None]
    if len(subjects) < 2:
        return "not looked at: the environment cannot be copied; give the class or a function that makes it"
    played = [[subject.reset(task)] for subject, task in zip(subjects, tasks, strict=True)]
    walks = [this.walk(task) for task in tasks]
    for number in range(1, max(map(len, walks))):
        for subject, walk, moments in zip(subjects, walks, played, strict=True):
            if number < len(walk):
                moments.append(subject.step(walk[number].command))
    for walk, moments in zip(walks, played, strict=True):
        difference = differ(walk, moments)
        if difference:
            wrong.append(
                f"two environments played in turn disturb each other: {difference}; keep all state in self, and chance "
                "in a generator of one's own (not in the module random, a class or a global)"
            )
            break
    return ""


def look_at_endings(this: Examination, wrong: Wrong) -> str:
    """Success, terminated and truncated agree with each other, and a game that is over is over."""
    ended = []
    for task in this.tasks():
        moments = play_to_the_end(this, task)
        for moment in [*this.walk(task), *moments]:
            sentence = _ending_error(moment)
            if sentence:
                wrong.append(sentence)
                return ""
        if moments[-1].over:
            ended.append("success" if moments[-1].success else "no success")
            _look_after_the_end(this, task, wrong)
        if wrong:
            return ""
    if not ended:
        return f"not looked at: no game ended within {LONGER * this.steps} commands"
    return "games that ended: " + ", ".join(ended)


def _ending_error(moment: Moment) -> str:
    if moment.success and not holds(moment.terminated):
        return f"{moment.where} says success without terminated; return terminated=True when the task is done"
    if holds(moment.terminated) and holds(moment.truncated):
        return (
            f"{moment.where} says terminated and truncated at once; truncated is only for an episode that is cut short "
            "before it is decided"
        )
    return ""


def _look_after_the_end(this: Examination, task: Task, wrong: Wrong) -> None:
    subject = this.subject
    returned, error = subject.attempt("step after the end", lambda: subject.env.step("look"))
    if error is None and not moment_of("look", returned).over:
        wrong.append(
            "step after the end went on as if the episode were not over; raise gymnasium.error.ResetNeeded, or say "
            "again that it is over"
        )
        return
    if differ(this.walk(task)[:1], [subject.reset(task)]):
        wrong.append(
            "reset after the end of an episode gave another beginning; let reset set everything back"
        )


def look_at_clones(this: Examination, wrong: Wrong) -> str:
    """A clone goes on from the same state, and neither notices what happens to the other."""
    subject, walk = this.subject, this.walk(this.tasks()[0])
    half = len(walk) // 2
    begun = [
        subject.reset(this.tasks()[0]),
        *(subject.step(moment.command) for moment in walk[1:half]),
    ]
    returned, error = subject.attempt("clone", subject.env.clone)
    if isinstance(error, NotImplementedError):
        return "it cannot be copied, and says so"
    if error is not None:
        wrong.append(
            f"clone raised {type(error).__name__}: {error}; raise NotImplementedError where it cannot be copied"
        )
        return ""
    if not isinstance(returned, TextEnv):
        wrong.append(
            f"clone returned {shown(returned)}; return a second environment, or raise NotImplementedError"
        )
        return ""
    twin = Subject(returned, this.caller)
    ours, theirs = list(begun), list(begun)
    try:
        for moment in walk[half or 1 :]:
            ours.append(subject.step(moment.command))
            theirs.append(twin.step(moment.command))
        difference = differ(walk, ours) or differ(walk, theirs)
    except Hang:
        raise
    except Trouble as trouble:
        difference = str(trouble)
    if difference:
        wrong.append(
            f"a clone and its original disturb each other: {difference}; copy all state in clone"
        )
    twin.attempt("close", twin.env.close)
    return "it can be copied"


def look_at_closing(this: Examination, wrong: Wrong) -> str:
    subject = this.another()
    if subject is None:
        return "not looked at: the environment cannot be copied; give the class or a function that makes it"
    subject.reset(this.tasks()[0])
    for count in ("the first time", "the second time"):
        _, error = subject.attempt("close", subject.env.close)
        if error is not None:
            wrong.append(
                f"close raised {type(error).__name__} {count}: {error}; closing twice must do no harm"
            )
            break
    return ""


def look_at_output(this: Examination, wrong: Wrong) -> None:
    for label, text in this.caller.printed.items():
        wrong.append(f"{label} printed {text.strip()[:40]!r}; print nothing, or use logging")
        return


CHECKS: dict[str, Callable[[Examination, Wrong], str | None]] = {
    "tasks": look_at_tasks,
    "before the first reset": look_before_the_first_reset,
    "reset": look_at_resets,
    "types": look_at_types,
    "texts": look_at_texts,
    "commands": look_at_commands,
    "commands that mean nothing": look_at_nonsense,
    "same seed, same game": look_at_repetition,
    "two at once": look_at_two_at_once,
    "endings": look_at_endings,
    "clone": look_at_clones,
    "closing": look_at_closing,
    "prints nothing": look_at_output,
}
"""What is looked at, in this order; each returns what there is to say where nothing is wrong."""
