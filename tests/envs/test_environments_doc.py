"""docs/environments.md: its environment keeps the contract, its commands are real, its table is whole."""

import re
from pathlib import Path

import pytest

from envs import check_env, make_env
from envs.registry import BUILT_IN

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "environments.md").read_text()


@pytest.fixture(scope="module")
def code() -> str:
    [block] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    return str(block)


def test_its_environment_keeps_the_contract(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(code.splitlines()) <= 40
    (tmp_path / "door.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    for expert in (False, True):
        report = check_env(lambda expert=expert: make_env("door:Door", expert=expert))  # type: ignore[misc]
        assert {check.sentence for check in report.checks if check.name == "endings"} != {""}


def test_all_that_ships_is_in_the_table() -> None:
    for name in BUILT_IN:
        assert f"| `{name}` |" in TEXT, name
    assert (ROOT / "configs" / "world.yaml").is_file()
