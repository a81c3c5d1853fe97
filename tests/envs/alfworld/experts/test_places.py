"""The committed table of places."""

import tomllib

from envs.alfworld.experts.count_places import table_text
from envs.alfworld.experts.places import PLACES, PLACES_FILE
from envs.alfworld.package import constants
from tests.builders.paths import ROOT


def test_the_table_is_as_the_counting_writes_it() -> None:
    assert PLACES_FILE.read_text() == table_text(PLACES)
    assert list(PLACES) == sorted(PLACES)
    assert len(PLACES) > 60


def test_its_places_are_furniture_that_holds_such_things() -> None:
    furniture = {kind.lower() for kind in constants().RECEPTACLES}
    for kind, places in PLACES.items():
        assert set(places) <= furniture, kind
        assert len(set(places)) == len(places) > 0, kind
    assert PLACES["egg"][0] == "diningtable"
    assert PLACES["desklamp"][0] == "sidetable"


def test_the_table_is_part_of_the_package() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert settings["package-data"]["envs.alfworld.experts"] == [PLACES_FILE.name]
