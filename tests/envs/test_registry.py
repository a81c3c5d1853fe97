from pathlib import Path

import pytest

from envs import make_env


@pytest.fixture(autouse=True)
def _own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_a_class_of_ones_own() -> None:
    env = make_env("own_env:Door", locked=True)
    assert env.tasks("train") == []


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("alfwrold", {}, "neither built in .alfworld. nor of the form package.module:Class"),
        ("no_such_module:Door", {}, "cannot import 'no_such_module'"),
        ("own_env:Window", {}, "module 'own_env' has no class 'Window'"),
        ("own_env:Door", {"loked": True}, "has no option 'loked'; did you mean 'locked'"),
        ("alfworld", {"game": {}}, "has no option 'game'; did you mean 'games'"),
    ],
)
def test_what_is_not_there_is_named(env_id: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id, **options)
