import os
import sys

import pytest

from envs.alfworld.package import domain_and_grammar, import_alfworld, mangle, package_folder


def test_names_are_written_as_pddl_has_them() -> None:
    assert mangle("Mug|+00.95|-01.30") == "Mug_bar__plus_00_dot_95_bar__minus_01_dot_30"


def test_the_grammar_has_a_gap_for_the_task() -> None:
    domain, grammar = domain_and_grammar()
    assert "(define (domain alfred)" in domain
    assert grammar.count("UNKNOWN GOAL") == 1


@pytest.mark.parametrize("value", [None, "/somewhere"])
def test_an_import_leaves_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    else:
        monkeypatch.setenv("ALFWORLD_DATA", value)
    module = import_alfworld("alfworld.gen.constants")
    assert module is sys.modules["alfworld.gen.constants"]
    assert os.environ.get("ALFWORLD_DATA") == value
    assert (package_folder() / "data" / "alfred.pddl").is_file()
