"""ALFWorld's vocabulary, each name once: families, splits, verbs, abilities, marks and tools.

ALFWorld spells one name in three ways. The package's constants say `SinkBasin` and `Cleanable`, the
game files say `sinkbasintype` and `cleanable`, and the texts say `sinkbasin`. The tables here hold
the package's spelling of furniture and the game files' spelling of predicates.
"""

from dataclasses import dataclass

PLACE = "pick_and_place_simple"
LOOK = "look_at_obj_in_light"
CLEAN = "pick_clean_then_place_in_recep"
HEAT = "pick_heat_then_place_in_recep"
COOL = "pick_cool_then_place_in_recep"
TWO = "pick_two_obj_and_place"
FAMILIES = (PLACE, LOOK, CLEAN, HEAT, COOL, TWO)
"""The six kinds of task, in ALFWorld's own order. A game's folder begins with its family."""

SPLITS = TRAIN, VALID_SEEN, VALID_UNSEEN = ("train", "valid_seen", "valid_unseen")
"""`valid_seen` has the rooms of `train`; `valid_unseen` has rooms that nothing trains on."""
TRAIN_UNSEEN_ROOMS = "train_unseen_rooms"
"""The games of `train` in scenes that were held out from it (`held_out_scenes`)."""

AGENT = "agent1"
"""The player's name in every game file."""

LAMP = "DeskLamp"
"""The lamp of the generated games. The published games have floor lamps too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One of the three things that a player can do to a thing with a piece of furniture."""

    verb: str
    """The first word of the command: `clean apple 1 with sinkbasin 1`."""
    family: str
    """The family whose tasks ask for it."""
    state: str
    """The adjective of task sentences: `put a hot mug in shelf`."""
    ability: str
    """The predicate of things that can be changed so. The package capitalizes it."""
    mark: str
    """The predicate of things that have been changed so."""
    tool: str
    """The type of furniture that does it."""


CHANGES = {
    change.verb: change
    for change in (
        Change(
            verb="clean",
            family=CLEAN,
            state="clean",
            ability="cleanable",
            mark="isclean",
            tool="SinkBasin",
        ),
        Change(
            verb="heat",
            family=HEAT,
            state="hot",
            ability="heatable",
            mark="ishot",
            tool="Microwave",
        ),
        Change(
            verb="cool",
            family=COOL,
            state="cool",
            ability="coolable",
            mark="iscool",
            tool="Fridge",
        ),
    )
}
"""The three changes, by verb. `CHANGES["heat"].tool` is "Microwave"."""

CHANGE_OF_FAMILY = {change.family: change for change in CHANGES.values()}
"""The change that a family asks for. The other three families ask for none."""

MARKS = tuple(change.mark for change in CHANGES.values())
"""Predicates of what has been done to a thing."""
