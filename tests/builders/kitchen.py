"""A hand-written game with every quirk: shared locations, a thing in two places, a hidden lamp."""

import json
import re
from pathlib import Path
from typing import Any

from envs.alfworld.package import domain_and_grammar

ID = "pick_cool_then_place_in_recep-Apple-None-DiningTable-1/trial_1"

_OBJECTS = """
    agent1 - agent
    Apple_bar_1 Bread_bar_1 Knife_bar_1 Mug_bar_1 - object
    Plate_bar_1 Egg_bar_1 DeskLamp_bar_1 Window_bar_1 - object
    CounterTop_bar_1 Sink_bar_1_bar_SinkBasin Microwave_bar_1 Fridge_bar_1 - receptacle
    DiningTable_bar_1 DiningTable_bar_2 - receptacle
    loc_bar_1 loc_bar_2 loc_bar_3 loc_bar_4 loc_bar_5 loc_bar_9 - location
    AppleType BreadType KnifeType MugType PlateType EggType DeskLampType WindowType - otype
    CounterTopType SinkBasinType MicrowaveType FridgeType DiningTableType - rtype
"""
_FACTS = """
    (atLocation agent1 loc_bar_9)
    (receptacleAtLocation CounterTop_bar_1 loc_bar_1)
    (receptacleType CounterTop_bar_1 CounterTopType)
    (receptacleAtLocation Sink_bar_1_bar_SinkBasin loc_bar_1)
    (receptacleType Sink_bar_1_bar_SinkBasin SinkBasinType)
    (receptacleAtLocation Microwave_bar_1 loc_bar_2) (receptacleType Microwave_bar_1 MicrowaveType)
    (receptacleAtLocation Fridge_bar_1 loc_bar_3) (receptacleType Fridge_bar_1 FridgeType)
    (receptacleAtLocation DiningTable_bar_1 loc_bar_4)
    (receptacleType DiningTable_bar_1 DiningTableType)
    (receptacleAtLocation DiningTable_bar_2 loc_bar_5)
    (receptacleType DiningTable_bar_2 DiningTableType)
    (openable Microwave_bar_1) (openable Fridge_bar_1)
    (canContain CounterTopType AppleType) (canContain CounterTopType BreadType)
    (canContain CounterTopType KnifeType)
    (canContain SinkBasinType AppleType) (canContain SinkBasinType KnifeType)
    (canContain SinkBasinType MugType)
    (canContain DiningTableType AppleType) (canContain DiningTableType KnifeType)
    (canContain DiningTableType DeskLampType)
    (canContain MicrowaveType AppleType) (canContain MicrowaveType MugType)
    (canContain FridgeType AppleType)
    (objectType Apple_bar_1 AppleType) (inReceptacle Apple_bar_1 CounterTop_bar_1)
    (inReceptacle Apple_bar_1 Sink_bar_1_bar_SinkBasin) (objectAtLocation Apple_bar_1 loc_bar_1)
    (cleanable Apple_bar_1) (heatable Apple_bar_1) (coolable Apple_bar_1) (sliceable Apple_bar_1)
    (objectType Bread_bar_1 BreadType) (inReceptacle Bread_bar_1 CounterTop_bar_1)
    (sliceable Bread_bar_1)
    (objectAtLocation Bread_bar_1 loc_bar_4) (isCool Bread_bar_1) (coolable Bread_bar_1)
    (objectType Knife_bar_1 KnifeType) (inReceptacle Knife_bar_1 CounterTop_bar_1)
    (objectAtLocation Knife_bar_1 loc_bar_1) (cleanable Knife_bar_1) (sliceable Knife_bar_1)
    (objectType Mug_bar_1 MugType) (inReceptacle Mug_bar_1 Fridge_bar_1)
    (objectAtLocation Mug_bar_1 loc_bar_3)
    (cleanable Mug_bar_1) (heatable Mug_bar_1)
    (objectType Plate_bar_1 PlateType) (inReceptacle Plate_bar_1 DiningTable_bar_1)
    (isReceptacleObject Plate_bar_1)
    (inReceptacleObject Egg_bar_1 Plate_bar_1) (objectType Egg_bar_1 EggType)
    (inReceptacle Egg_bar_1 DiningTable_bar_1)
    (objectType DeskLamp_bar_1 DeskLampType) (inReceptacle DeskLamp_bar_1 Microwave_bar_1)
    (toggleable DeskLamp_bar_1)
    (objectType Window_bar_1 WindowType) (objectAtLocation Window_bar_1 loc_bar_1)
    (pickupable Apple_bar_1) (pickupable Bread_bar_1) (pickupable Knife_bar_1)
    (pickupable Mug_bar_1)
    (pickupable Plate_bar_1) (pickupable DeskLamp_bar_1)
"""
_GOAL = """(and (exists (?r - receptacle) (exists (?o - object) (and (coolable ?o)
    (objectType ?o AppleType) (receptacleType ?r DiningTableType) (isCool ?o)
    (inReceptacle ?o ?r)))))"""


def published_texts() -> tuple[str, str]:
    """The domain and the grammar of the published games, made from those of the package.

    In the published games a sink cleans too, and the answer to `help` is at its action.
    """
    domain, grammar = domain_and_grammar()
    domain = domain.replace(";(receptacleType ?r SinkType)", "(receptacleType ?r SinkType)")
    domain = domain.removesuffix("\n\n)\n") + "\n)\n"
    help_text = re.search(r'"rhs": "\\n(Available commands:.*?)\\n"', grammar)
    assert help_text is not None
    lines = help_text[1].replace("\\n", "\n")
    rule = f'action help {{\n    template :: "help";\n    feedback :: "\n{lines}\n";\n}}\n'
    return domain, grammar[: grammar.index("action help")] + rule


def kitchen(*, more_facts: str = "", goal: str = _GOAL, published: bool = False) -> dict[str, Any]:
    """The contents of the game's file.

    Args:
        more_facts: PDDL facts to add to the start.
        goal: the goal in PDDL; by default a cool apple on a dining table.
        published: take the domain and the grammar of the published games.
    """
    domain, grammar = published_texts() if published else domain_and_grammar()
    problem = (
        f"(define (problem kitchen) (:domain alfred) (:objects {_OBJECTS}) "
        f"(:init {_FACTS}{more_facts}) (:goal {goal}))"
    )
    return {
        "pddl_domain": domain,
        "grammar": grammar.replace("UNKNOWN GOAL", "cool some apple and put it in diningtable"),
        "pddl_problem": problem,
        "solvable": True,
        "walkthrough": [],
    }


def write_kitchen(folder: Path, **changes: Any) -> Path:
    """Write the game into the split `train` of a data folder; returns the file's path."""
    path = folder / "train" / ID / "game.tw-pddl"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(kitchen(**changes)))
    return path
