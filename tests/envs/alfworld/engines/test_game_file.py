"""What the native engine reads from a game file, and what it refuses, by name."""

import pytest

from envs.alfworld.engines.game_file import Goal, UnknownToNativeEngine, read_problem
from envs.alfworld.names import FAMILIES
from envs.alfworld.package import goals
from tests.builders.kitchen import kitchen


@pytest.mark.parametrize(
    ("key", "old", "new", "named"),
    [
        ("pddl_problem", "(isCool", "(isFrozen", r"\(isfrozen bread_bar_1\): unknown predicate"),
        (
            "pddl_problem",
            "(openable Fridge_bar_1)",
            "(openable Mug_bar_1)",
            "should be about receptacle",
        ),
        ("pddl_problem", "(openable Fridge_bar_1)", "(openable Oven_bar_1)", "oven_bar_1"),
        (
            "pddl_problem",
            "(isCool ?o)",
            "(isHot ?o)",
            "has not the form of any of the six families",
        ),
        (
            "pddl_problem",
            "(openable Fridge_bar_1)",
            "(not (openable Fridge_bar_1))",
            "not of the form",
        ),
        ("pddl_problem", "(atLocation agent1 loc_bar_9)", "", "exactly one agent"),
        ("pddl_problem", "Mug_bar_1", "Mug", "mug: it has no coordinates"),
        (
            "pddl_problem",
            "(receptacleAtLocation Fridge_bar_1 loc_bar_3)",
            "",
            "fridge_bar_1: it has no fact",
        ),
        ("pddl_problem", "agent1", "agent2", "agent2: it should be agent1"),
        ("pddl_problem", "(:init", "(:start", "does not consist of"),
        ("pddl_domain", "?ko", "?knife", "pddl_domain"),
        ("grammar", "move {o} to {r}", "put {o} in/on {r}", "grammar is none of those"),
        ("grammar", "cool some apple", "cool #some# apple", "grammar is none of those"),
    ],
)
def test_what_it_has_no_rule_for_is_refused_by_name(
    key: str, old: str, new: str, named: str
) -> None:
    data = kitchen()
    assert old in data[key]
    with pytest.raises(UnknownToNativeEngine, match=named):
        read_problem({**data, key: data[key].replace(old, new)})


def test_two_facts_about_one_name_are_refused() -> None:
    with pytest.raises(UnknownToNativeEngine, match="receptacleatlocation: two of them"):
        read_problem(kitchen(more_facts="(receptacleAtLocation Fridge_bar_1 loc_bar_4)"))


def library_goal(family: str) -> str:
    """The goal of the package's library, about mugs, shelves and desk lamps."""
    text: str = goals().gdict[family]["pddl"].replace("#", "-")
    goal = text.format(obj="Mug", recep="Shelf", toggle="DeskLamp").strip()
    assert goal.startswith("(:goal")
    # The last bracket closes the problem, and the one before closes `(:goal`.
    before, *_ = goal.removeprefix("(:goal").rsplit(")", 2)
    return before


@pytest.mark.parametrize("family", FAMILIES)
def test_the_goal_of_every_family_is_read(family: str) -> None:
    goal = read_problem(kitchen(goal=library_goal(family))).goal
    lamp = family == "look_at_obj_in_light"
    verbs = {"pick_clean": "clean", "pick_heat_": "heat", "pick_cool_": "cool"}
    assert goal == Goal(
        family=family,
        thing="mugtype",
        target="desklamptype" if lamp else "shelftype",
        verb=verbs.get(family[:10], ""),
        count=2 if family == "pick_two_obj_and_place" else 1,
    )
    assert goal.lamp == lamp


def test_the_same_gap_of_a_goal_has_the_same_type_each_time() -> None:
    goal = library_goal("pick_two_obj_and_place")
    first, second = "(objectType ?o1 MugType)", "(objectType ?o2 MugType)"
    assert first in goal
    with pytest.raises(UnknownToNativeEngine, match="has not the form of any of the six families"):
        read_problem(kitchen(goal=goal.replace(second, "(objectType ?o2 CupType)")))
