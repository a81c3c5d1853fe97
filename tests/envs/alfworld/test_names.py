"""The vocabulary against the package's own."""

from envs.alfworld.names import CHANGE_OF_FAMILY, CHANGES, FAMILIES, LAMP, MARKS, SPLITS
from envs.alfworld.package import constants, domain_and_grammar, goals


def test_families_tools_and_abilities_are_known_to_the_package() -> None:
    for family in FAMILIES:
        assert goals().gdict[family]["templates"]
    for change in CHANGES.values():
        assert change.tool in constants().RECEPTACLES
        assert constants().VAL_ACTION_OBJECTS[change.ability.capitalize()]
    assert LAMP in constants().OBJECTS


def test_verbs_and_marks_are_those_of_the_domain() -> None:
    domain, grammar = (text.lower() for text in domain_and_grammar())
    for verb, change in CHANGES.items():
        assert f'"{verb} {{o}} with {{r}}"' in grammar
        assert f"({change.ability} ?o" in domain
        assert f"({change.mark} ?o" in domain


def test_a_family_asks_for_the_change_in_its_name() -> None:
    assert {family: change.verb for family, change in CHANGE_OF_FAMILY.items()} == {
        "pick_clean_then_place_in_recep": "clean",
        "pick_heat_then_place_in_recep": "heat",
        "pick_cool_then_place_in_recep": "cool",
    }
    assert MARKS == ("isclean", "ishot", "iscool")
    assert SPLITS == ("train", "valid_seen", "valid_unseen")
