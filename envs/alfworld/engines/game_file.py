"""What a `game.tw-pddl` says, read for the native engine and checked to be something that it has
rules for.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from envs.alfworld.names import AGENT, CHANGE_OF_FAMILY, CHANGES, LOOK, PLACE, TWO

DOMAINS = {
    "0af55e7f92d12b09d28515aa730e4d03fddd17228ef1fd7b18a3ee8ba49b27b9": (
        "sinktype",
        "sinkbasintype",
    ),
    "f1473041ed01da514de1f87adfd7ef0804862361f83ccf63c75e43633b0eb280": ("sinkbasintype",),
}
"""The receptacles that clean, by the digest of a PDDL domain: that of the published games, and the
one that alfworld 0.4 ships and puts into the games that it generates. They say the same otherwise.
"""
GRAMMARS = (
    "063d42f07581dbed3b4f655bae25e0af94fd0e062f9eae0f6f63037ecd5177e6",
    "93119b93cd2872a8057ed9a13f40891d21ee1be4d95a6dc2f8fe36b55630e652",
)
"""The digests of the two grammars that go with them, less the task's sentence. They give the same
texts.
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
"""What a problem may state at the start, and of what."""

_TASK = re.compile(r'"(Your task is to: [^"\\#\[\]{}|]*)"')
_PROBLEM = re.compile(
    r"\s*\(define\s+\(problem\s+\S+?\)\s*\(:domain\s+alfred\)"
    r"\s*\(:objects(?P<objects>[^()]*)\)\s*\(:init(?P<init>[^:]*)\)\s*\(:goal(?P<goal>[^:]*)\)\s*\)\s*"
)

_WORDS = re.compile(r"[()]|[^\s()]+")
_PLACED = "(and (exists (?r - receptacle) (exists (?o - object) (and {}))))"
_TYPES = "(objecttype ?o X) (receptacletype ?r Y)"
_TWO = (
    "(and (exists (?r - receptacle) (exists (?o1 - object) (and (objecttype ?o1 X) (receptacletype ?r Y) "
    "(inreceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) (objecttype ?o2 X) (receptacletype ?r Y) "
    "(inreceptacle ?o2 ?r)))))))"
)
_LIT = (
    "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objecttype ?ot Y) (toggleable ?ot) "
    "(istoggled ?ot) (receptacleatlocation ?r ?l) (atlocation ?a ?l) (inreceptacle ?ot ?r))) "
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
"""The goal of each family; X is the type of the thing, Y that of the receptacle or the lamp."""
_GOAL_WORDS = {family: _WORDS.findall(goal) for family, goal in _GOALS.items()}


Facts = Mapping[str, Sequence[Sequence[str]]]
"""The arguments of every fact, sorted, by predicate."""


class UnknownToNativeEngine(ValueError):
    """The game holds something that the native engine has no rule for; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What wins: `count` things of type `thing` in one receptacle of type `target`, to which `verb`
    has been done.

    With `lamp`, `target` is the type of a lamp: the thing must be held where such a lamp has been
    turned on. Types are as the problem spells them, in lower case (`mugtype`); `verb` is "" where
    nothing need be done.
    """

    family: str
    thing: str
    target: str
    verb: str
    count: int

    @property
    def lamp(self) -> bool:
        return self.family == LOOK


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a game file says that others do not, checked, not put together. `things`: the ids of all
    things, sorted.
    """

    sentence: str
    goal: Goal
    cleaners: list[str]
    walkthrough: list[str]
    things: list[str]
    facts: Facts

    def to_json(self) -> str:
        """All of it, for `from_json`."""
        parts = {part: getattr(self, part) for part in self.__slots__}
        return json.dumps({**parts, "goal": asdict(self.goal)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Problem":
        """The inverse of `to_json`."""
        parts = json.loads(text)
        return cls(**{**parts, "goal": Goal(**parts["goal"])})


def read_problem(data: Mapping[str, Any]) -> Problem:
    """The problem in the contents of a `game.tw-pddl`.

    Raises:
        UnknownToNativeEngine: its domain or grammar is another one, or its facts or its goal are of
        another kind.
    """
    cleaners = DOMAINS.get(_digest(data["pddl_domain"]))
    if cleaners is None:
        raise UnknownToNativeEngine(
            "its pddl_domain is none of those that alfworld 0.4 or the published games have"
        )
    sentence = _TASK.search(data["grammar"])
    if sentence is None or _digest(data["grammar"].replace(sentence[1], "", 1)) not in GRAMMARS:
        raise UnknownToNativeEngine(
            "its grammar is none of those that alfworld 0.4 or the published games have (older: `put` for `move`)"
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
    """The declared names, by type."""
    declared: dict[str, set[str]] = defaultdict(set)
    waiting: list[str] = []
    words = iter(text.split())
    for word in words:
        if word == "-":
            declared[next(words, "")].update(waiting)
            waiting = []
        else:
            waiting.append(word)
    return declared


def _read_facts(text: str) -> Facts:
    """The arguments of every fact, by predicate."""
    facts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    *written, rest = text.split(")")
    for fact in written:
        bracket, _, words = fact.partition("(")
        predicate, *names = words.split() or [""]
        if bracket.strip() or not names:
            raise UnknownToNativeEngine(
                f"{fact.strip()!r} among the facts: not of the form (predicate name ...)"
            )
        facts[predicate].add(tuple(names))
    if rest.strip():
        raise UnknownToNativeEngine(f"{rest.strip()!r} after the facts")
    return {predicate: sorted(rows) for predicate, rows in facts.items()}


def _check_facts(facts: Facts, declared: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The names that the facts are about, by type, where there is a rule for all that they say."""
    used: dict[str, set[str]] = defaultdict(set)
    for predicate, rows in facts.items():
        signature = SIGNATURES.get(predicate)
        if signature is None:
            raise UnknownToNativeEngine(
                f"the fact ({predicate} {' '.join(rows[0])}): unknown predicate"
            )
        columns = [set(names) for names in zip(*rows, strict=False)]
        undeclared = [
            names - declared[kind] for kind, names in zip(signature, columns, strict=False)
        ]
        if any(undeclared) or {len(row) for row in rows} != {len(signature)}:
            row = next(
                r
                for r in rows
                if len(r) != len(signature) or any(map(set.__contains__, undeclared, r))
            )
            kinds = " and ".join(signature)
            raise UnknownToNativeEngine(
                f"the fact ({predicate} {' '.join(row)}): it should be about {kinds}"
            )
        for kind, names in zip(signature, columns, strict=True):
            used[kind] |= names
    for predicate in ("atlocation", "receptacleatlocation", "receptacletype", "objecttype"):
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
        if "_bar_" not in name:
            raise UnknownToNativeEngine(f"the name {name}: it has no coordinates")
    return used


def _read_goal(text: str) -> Goal:
    words = _WORDS.findall(text)
    for family, shape in _GOAL_WORDS.items():
        bound: dict[str, str] = {}
        if len(words) == len(shape) and all(
            bound.setdefault(part, word) == word if part in "XY" else part == word
            for part, word in zip(shape, words, strict=True)
        ):
            change = CHANGE_OF_FAMILY.get(family)
            return Goal(
                family=family,
                thing=bound["X"],
                target=bound["Y"],
                verb=change.verb if change else "",
                count=2 if family == TWO else 1,
            )
    raise UnknownToNativeEngine(
        f"the goal {' '.join(words)}: it has not the form of any of the six families"
    )
