"""Each fault in an environment's tasks, texts and values is reported in its own sentence."""

from collections.abc import Callable
from functools import partial

import pytest

from envs import TextEnv
from envs.conformance.calls import Caller, Moment
from envs.conformance.examination import Examination
from envs.conformance.value_checks import check_advice, check_tasks
from tests.builders.faulty_environments import (
    ARRAY,
    ArrayReset,
    ArrayTasks,
    BadSpace,
    NoSplits,
    NoTask,
    NoTaskAtAll,
    OneSplit,
    OtherTasks,
    ResetRaises,
    ResetText,
    Speechless,
    Spoiled,
    Stairs,
    StepFour,
    StepInt,
    StepRaises,
    Touchy,
    WonAtOnce,
    WordsRaise,
    WrongTasks,
    WrongWords,
    assert_refused,
    failures_of,
)

FAULTY: list[tuple[Callable[[], TextEnv], str, str]] = [
    (
        NoTask,
        "tasks",
        "tasks('train') raised ValueError: the folder is empty; the first of splits must have",
    ),
    (
        NoTaskAtAll,
        "tasks",
        "split 'train' has no task; let tasks(split) return some for the first of splits",
    ),
    (
        NoTaskAtAll,
        "tasks",
        "tasks('no such split') returned 0 tasks; raise ValueError for an unknown split",
    ),
    (WrongTasks, "tasks", "tasks('train') does not return a list of envs.Task; return one"),
    (
        OtherTasks,
        "tasks",
        "returned other tasks at the second call; draw them from a seed that stays the same",
    ),
    (OtherTasks, "tasks", "tasks('train') has two tasks with one id; give each a different id"),
    (
        OtherTasks,
        "tasks",
        "tasks('valid') has a task of another split; set Task.split to the split",
    ),
    (
        NoSplits,
        "tasks",
        "splits is (); make it a tuple of different names, such as ('train', 'valid')",
    ),
    (
        WrongWords,
        "tasks",
        "words() does not return a list of texts; return one, or leave the method out",
    ),
    (
        WordsRaise,
        "tasks",
        "words() raised RuntimeError: no words; return a list of texts, or leave the method out",
    ),
    (
        OneSplit,
        "tasks",
        "tasks('valid') raised KeyError: 'valid'; return the tasks of each of splits, or raise "
        "ValueError",
    ),
    (ArrayTasks, "tasks", "tasks('no such split') returned array([0, 1, 2]); raise ValueError"),
    (
        ArrayReset,
        "reset",
        "reset returned the observation array([0, 1, 2]); return a text that says what there is "
        "to do",
    ),
    (
        Speechless,
        "reset",
        "reset returned the observation ''; return a text that says what there is to do",
    ),
    (
        WonAtOnce,
        "reset",
        "reset says success: True; an episode cannot be won before the first command",
    ),
    (
        ResetText,
        "reset",
        "reset of task 'train-0' returned a str; reset has to return a tuple of two: "
        "(observation, info) (it was",
    ),
    (
        ResetRaises,
        "reset",
        "reset of task 'train-0' raised OSError: no stairs; in training, such an episode counts as",
    ),
    (
        StepInt,
        "reset",
        "returned an int; step has to return a tuple of five: (observation, reward, terminated, "
        "truncated,",
    ),
    (
        StepFour,
        "reset",
        "returned a tuple of 4; step has to return a tuple of five: (observation, reward, "
        "terminated,",
    ),
    (StepRaises, "reset", "raised SystemExit: 3; in training, such an episode counts as an error"),
    (
        lambda: Spoiled("observation", 3),
        "types",
        "returned an int as observation; a TextEnv returns text: str (it was 3)",
    ),
    (
        lambda: Spoiled("observation", ARRAY),
        "types",
        "returned a ndarray as observation; a TextEnv returns text: str (it",
    ),
    (
        lambda: Spoiled("observation", "a\ud800"),
        "types",
        "a text that cannot be written as UTF-8: it holds '\\ud800'",
    ),
    (
        lambda: Spoiled("reward", "1"),
        "types",
        "returned a str as reward; a TextEnv returns a finite number (it was '1')",
    ),
    (
        lambda: Spoiled("reward", float("nan")),
        "types",
        "returned nan as reward; a TextEnv returns a finite number",
    ),
    (
        lambda: Spoiled("terminated", 1),
        "types",
        "returned an int as terminated; a TextEnv returns a bool: bool(...) of it",
    ),
    (
        lambda: Spoiled("terminated", ARRAY),
        "types",
        "returned a ndarray as terminated; a TextEnv returns a bool",
    ),
    (
        lambda: Spoiled("truncated", None),
        "types",
        "returned None as truncated; a TextEnv returns a bool",
    ),
    (
        lambda: Spoiled("success", "no"),
        "types",
        "returned a str as info['success']; a TextEnv says there whether",
    ),
    (lambda: Spoiled("success", ARRAY), "types", "returned a ndarray as info['success']"),
    (
        lambda: Spoiled("admissible_commands", ["a", "a"]),
        "types",
        "returned the admissible_commands ['a', 'a']; return a list of different texts that are "
        "not empty",
    ),
    (
        lambda: Spoiled("admissible_commands", "climb"),
        "types",
        "returned a str as info['admissible_commands']; a TextEnv returns a list of str",
    ),
    (
        lambda: Spoiled("expert_command", 3),
        "types",
        "returned an int as info['expert_command']; a TextEnv returns text",
    ),
    (
        lambda: Spoiled("observation", "na\u00efve"),
        "texts",
        "it has ['\u00ef'], which the space does not; replace",
    ),
    (
        lambda: Spoiled("observation", "a" * 9000),
        "texts",
        "it has 9000 characters and the space allows 8192; shorten",
    ),
    (
        lambda: Spoiled("admissible_commands", ["climb\u2026"]),
        "commands",
        "which is not in action_space; widen action_space",
    ),
    (
        lambda: Spoiled("expert_command", "fly"),
        "commands",
        "expert_command 'fly', which it does not list as",
    ),
    (Touchy, "reset", "step('xyzzy the frotz') raised KeyError: 'xyzzy the frotz'"),
    (BadSpace, "texts", "reading its attributes or values raised RuntimeError: no space ("),
    (BadSpace, "texts", "faulty_environments.py:"),
]


@pytest.mark.parametrize(
    ("make", "name", "sentence"),
    FAULTY,
    ids=[f"{index}-{row[1].replace(' ', '_')}" for index, row in enumerate(FAULTY)],
)
def test_each_fault_has_its_sentence(
    make: Callable[[], TextEnv], name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(make, name, sentence)
    assert capsys.readouterr().out == ""


def advised(advice: str | None, *, terminated: bool = False) -> Moment:
    """A moment with one admissible command, "climb", and the expert's command."""
    info = {"admissible_commands": ["climb"], "expert_command": advice}
    return Moment(command="climb", observation="o", info=info, terminated=terminated)


@pytest.mark.parametrize(("refused", "count"), [(2, 20), (0, 1), (0, 0)])
def test_up_to_a_tenth_of_the_advice_may_be_refused(refused: int, count: int) -> None:
    moments = [advised("fly")] * refused + [advised("climb")] * (count - refused)
    problems: list[str] = []
    check_advice(moments, problems)
    assert problems == []


def test_more_refused_advice_is_a_problem() -> None:
    moments = [advised("climb")] * 17 + [advised("fly")] * 3
    problems: list[str] = []
    check_advice(moments, problems)
    assert problems == [
        "step('climb') gives the expert_command 'fly', which it does not list as admissible; "
        "this happens to 3 of 20 commands of the expert"
    ]


def test_advice_after_the_end_and_no_advice_do_not_count() -> None:
    moments = [advised("climb")] * 9 + [advised("fly")]
    problems: list[str] = []
    check_advice([*moments, advised("fly", terminated=True), advised(None)], problems)
    assert problems == []


def test_an_odd_value_costs_no_other_check() -> None:
    for key in ("observation", "reward"):
        assert list(failures_of(partial(Spoiled, key, ARRAY))) == ["types"]
    assert list(failures_of(OneSplit)) == ["tasks"]
    assert list(failures_of(WordsRaise)) == ["tasks"]


def test_the_first_check_chooses_tasks_of_all_splits() -> None:
    caller = Caller(seconds=10)
    examination = Examination(env=Stairs(), caller=caller, task_count=3, steps=1, seed=0)
    problems: list[str] = []
    assert check_tasks(examination, problems) == "train: 4, valid: 4"
    assert problems == []
    assert [task.id for task in examination.tasks()] == ["train-0", "valid-0", "train-1"]
    caller.close()
