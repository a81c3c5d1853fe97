"""Reads a `game.tw-pddl` for the native engine, and checks that the engine has rules for all of it.

A game file is JSON that holds a PDDL domain, a text grammar and a PDDL problem. The native engine
implements two domains and two grammars, known by their digests, so only the problem is parsed. What
is not of a known form raises `UnknownToNativeEngine`: a game that loads is played by the rules.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from envs.alfworld.names import AGENT, CHANGE_OF_FAMILY, CHANGES, LOOK, PLACE, TWO

DOMAINS = {
    "0af55e7f92d12b09d28515aa730e4d03fddd17228ef1fd7b18a3ee8ba49b27b9": (
        "sinktype",
        "sinkbasintype",
    ),
    "f1473041ed01da514de1f87adfd7ef0804862361f83ccf63c75e43633b0eb280": ("sinkbasintype",),
}
"""By the digest of a PDDL domain: the types of furniture that clean.

The first domain is that of the published games. The second is the one that alfworld 0.4 ships and
puts into the games that it generates. They differ in nothing else.
"""
GRAMMARS = (
    "063d42f07581dbed3b4f655bae25e0af94fd0e062f9eae0f6f63037ecd5177e6",
    "93119b93cd2872a8057ed9a13f40891d21ee1be4d95a6dc2f8fe36b55630e652",
)
"""The digests of the two grammars that belong to them, without the task's sentence.

Both grammars give the same texts.
"""

THING_PREDICATES = (
    *(change.ability for change in CHANGES.values()),
    "pickupable",
    "toggleable",
    "sliceable",
    "isreceptacleobject",
    CHANGES["cool"].mark,
)
"""What a problem may state about one thing. Of the changes, only `iscool` is true at the start."""

SIGNATURES = {
    "atlocation": ("agent", "location"),
    "receptacleatlocation": ("receptacle", "location"),
    "objectatlocation": ("object", "location"),
    "inreceptacle": ("object", "receptacle"),
    "inreceptacleobject": ("object", "object"),
    "receptacletype": ("receptacle", "rtype"),
    "objecttype": ("object", "otype"),
    "cancontain": ("rtype", "otype"),
    "openable": ("receptacle",),
    **dict.fromkeys(THING_PREDICATES, ("object",)),
}
"""The predicates that a problem may state at the start, and the PDDL types of their arguments."""

ONE_FACT_PER_NAME = ("atlocation", "receptacleatlocation", "receptacletype", "objecttype")
"""The predicates that may be stated only once of the same first argument."""

_TASK = re.compile(r'"(Your task is to: [^"\\#\[\]{}|]*)"')
"""The task's sentence in the grammar, in quotes and free of the grammar's own signs."""
_PROBLEM = re.compile(
    r"\s*\(define\s+\(problem\s+\S+?\)\s*\(:domain\s+alfred\)"
    r"\s*\(:objects(?P<objects>[^()]*)\)\s*\(:init(?P<init>[^:]*)\)"
    r"\s*\(:goal(?P<goal>[^:]*)\)\s*\)\s*"
)
"""`(define (problem p) (:domain alfred) (:objects ...) (:init ...) (:goal ...))`, lower case."""

# The goals of the six families as PDDL words, X for the type of the thing and Y for the type of the
# receptacle or the lamp. Spaces do not matter, the order of the conditions does: the goal library
# and the published games all have this order.
_WORDS = re.compile(r"[()]|[^\s()]+")
_PLACED = "(and (exists (?r - receptacle) (exists (?o - object) (and {}))))"
_TYPES = "(objecttype ?o X) (receptacletype ?r Y)"
_TWO = (
    "(and (exists (?r - receptacle) (exists (?o1 - object) "
    "(and (objecttype ?o1 X) (receptacletype ?r Y) (inreceptacle ?o1 ?r) "
    "(exists (?o2 - object) (and (not (= ?o1 ?o2)) "
    "(objecttype ?o2 X) (receptacletype ?r Y) (inreceptacle ?o2 ?r)))))))"
)
_LIT = (
    "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) "
    "(and (objecttype ?ot Y) (toggleable ?ot) (istoggled ?ot) "
    "(receptacleatlocation ?r ?l) (atlocation ?a ?l) (inreceptacle ?ot ?r))) "
    "(exists (?o - object ?a - agent) (and (objecttype ?o X) (holds ?a ?o))))"
)
_GOALS = {
    PLACE: _PLACED.format(f"(inreceptacle ?o ?r) {_TYPES}"),
    LOOK: _LIT,
    **{
        change.family: _PLACED.format(
            f"({change.ability} ?o) {_TYPES} ({change.mark} ?o) (inreceptacle ?o ?r)"
        )
        for change in CHANGES.values()
    },
    TWO: _TWO,
}
_GOAL_WORDS = {family: _WORDS.findall(goal) for family, goal in _GOALS.items()}

Facts = Mapping[str, Sequence[Sequence[str]]]
"""By predicate, the arguments of every fact, sorted."""


class UnknownToNativeEngine(ValueError):
    """The native engine has no rule for a part of the game; the message names the part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What wins: things of one type in one receptacle, or a thing in the light of a lamp.

    Types are as the problem spells them, in lower case: `mugtype`.
    """

    family: str
    thing: str
    """The type of the thing."""
    target: str
    """The type of the receptacle that must hold the thing, or of the lamp (see `lamp`)."""
    verb: str
    """The verb of `CHANGES` that must have been done to the thing; "" if none."""
    count: int
    """How many such things must be in the same receptacle."""

    @property
    def lamp(self) -> bool:
        """Whether the thing must be held at a place where a lamp of type `target` is on."""
        return self.family == LOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """The parts of a game file that differ between games, checked."""

    sentence: str
    """The task: `Your task is to: ...`."""
    goal: Goal
    cleaners: list[str]
    """The types of furniture that clean."""
    walkthrough: list[str]
    """Commands that win; empty if the file has none."""
    things: list[str]
    """The ids of all things, sorted."""
    facts: Facts


def read_problem(data: Mapping[str, Any]) -> Problem:
    """The problem in the contents of a `game.tw-pddl`.

    Raises:
        UnknownToNativeEngine: the domain or the grammar is unknown, or a fact or the goal has an
            unknown form.
    """
    cleaners = DOMAINS.get(_digest(data["pddl_domain"]))
    if cleaners is None:
        raise UnknownToNativeEngine(
            "its pddl_domain is none of those that alfworld 0.4 or the published games have"
        )
    sentence = _TASK.search(data["grammar"])
    if sentence is None or _digest(data["grammar"].replace(sentence[1], "", 1)) not in GRAMMARS:
        raise UnknownToNativeEngine(
            "its grammar is none of those that alfworld 0.4 or the published games have "
            "(older: `put` for `move`)"
        )
    problem = _PROBLEM.fullmatch(data["pddl_problem"].lower())
    if problem is None:
        raise UnknownToNativeEngine(
            "its pddl_problem does not consist of objects, facts and a goal alone"
        )
    facts = _read_facts(problem["init"])
    used = _check_facts(facts, _read_declared(problem["objects"]))
    return Problem(
        sentence=sentence[1],
        goal=_read_goal(problem["goal"]),
        cleaners=list(cleaners),
        walkthrough=list(data.get("walkthrough") or ()),
        things=sorted(used["object"]),
        facts=facts,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read_declared(text: str) -> dict[str, set[str]]:
    """The declared names, by type: `a b - object c - agent` has two objects and one agent."""
    declared: dict[str, set[str]] = defaultdict(set)
    names: list[str] = []
    words = iter(text.split())
    for word in words:
        if word == "-":
            declared[next(words, "")].update(names)
            names = []
        else:
            names.append(word)
    return declared


def _read_facts(text: str) -> Facts:
    """The arguments of every fact, by predicate, from `(openable fridge_bar_1) ...`."""
    facts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    # Facts do not nest, so each ends at the next bracket. A nested one, as in
    # `(not (openable fridge_bar_1))`, leaves words before its own bracket and is refused.
    *written, rest = text.split(")")
    for fact in written:
        before, _, words = fact.partition("(")
        predicate, *names = words.split() or [""]
        if before.strip() or not names:
            raise UnknownToNativeEngine(
                f"{fact.strip()!r} among the facts: not of the form (predicate name ...)"
            )
        facts[predicate].add(tuple(names))
    if rest.strip():
        raise UnknownToNativeEngine(f"{rest.strip()!r} after the facts")
    return {predicate: sorted(rows) for predicate, rows in facts.items()}


def pairs(rows: Iterable[Sequence[str]]) -> dict[str, str]:
    """Facts about two names as a table: `objecttype` gives each thing's type."""
    return {row[0]: row[1] for row in rows}


def _check_facts(facts: Facts, declared: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The names that the facts are about, by PDDL type.

    Raises:
        UnknownToNativeEngine: there is no rule for something that the facts say.
    """
    used: dict[str, set[str]] = defaultdict(set)
    for predicate, rows in facts.items():
        signature = SIGNATURES.get(predicate)
        if signature is None:
            raise UnknownToNativeEngine(
                f"the fact ({predicate} {' '.join(rows[0])}): unknown predicate"
            )
        for kind, names in zip(signature, _columns(predicate, rows, signature), strict=True):
            undeclared = names - declared[kind]
            if undeclared:
                row = next(row for row in rows if undeclared.intersection(row))
                raise _misfit(predicate, row, signature)
            used[kind] |= names
    for predicate in ONE_FACT_PER_NAME:
        rows = facts.get(predicate, [])
        if len({row[0] for row in rows}) != len(rows):
            raise UnknownToNativeEngine(f"the facts {predicate}: two of them about the same name")
    if len(facts.get("atlocation", [])) != 1:
        raise UnknownToNativeEngine("there is not exactly one agent with a location")
    if used["agent"] != {AGENT}:
        raise UnknownToNativeEngine(f"the agent {min(used['agent'])}: it should be {AGENT}")
    nowhere = used["receptacle"] - {row[0] for row in facts.get("receptacleatlocation", [])}
    if nowhere:
        raise UnknownToNativeEngine(
            f"the receptacle {min(nowhere)}: it has no fact receptacleatlocation"
        )
    for name in used["object"] | used["receptacle"]:
        # player_names() reads the kind before "_bar_": mug_bar_1 is a "mug".
        if "_bar_" not in name:
            raise UnknownToNativeEngine(f"the name {name}: it has no coordinates")
    return used


def _columns(
    predicate: str, rows: Sequence[Sequence[str]], signature: Sequence[str]
) -> list[set[str]]:
    """The first names of all facts of a predicate, the second names, and so on.

    A game has a thousand facts. Checking a set of names is quicker than checking fact by fact.
    """
    for row in rows:
        if len(row) != len(signature):
            raise _misfit(predicate, row, signature)
    return [set(names) for names in zip(*rows, strict=True)]


def _misfit(predicate: str, row: Sequence[str], signature: Sequence[str]) -> UnknownToNativeEngine:
    """The error for a fact about too many or too few names, or about a name of another type."""
    kinds = " and ".join(signature)
    return UnknownToNativeEngine(
        f"the fact ({predicate} {' '.join(row)}): it should be about {kinds}"
    )


def _read_goal(text: str) -> Goal:
    """The goal, which must have the shape of one family."""
    words = _WORDS.findall(text)
    for family, shape in _GOAL_WORDS.items():
        types = _match_goal(words, shape)
        if types is not None:
            change = CHANGE_OF_FAMILY.get(family)
            return Goal(
                family=family,
                thing=types["X"],
                target=types["Y"],
                verb="" if change is None else change.verb,
                count=2 if family == TWO else 1,
            )
    raise UnknownToNativeEngine(
        f"the goal {' '.join(words)}: it has not the form of any of the six families"
    )


def _match_goal(words: Sequence[str], shape: Sequence[str]) -> dict[str, str] | None:
    """The words that stand at X and Y of a shape; None if the words have another shape."""
    if len(words) != len(shape):
        return None
    types: dict[str, str] = {}
    for word, expected in zip(words, shape, strict=True):
        if expected in ("X", "Y"):
            # X and Y may occur twice, and must be the same word each time.
            expected = types.setdefault(expected, word)
        if word != expected:
            return None
    return types
