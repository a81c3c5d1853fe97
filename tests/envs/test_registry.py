"""From an id to an environment, and the messages about ids and options that do not fit."""

import subprocess
import sys
from pathlib import Path

import pytest

from envs import make_env
from envs.registry import BUILT_IN, is_named, list_environments, object_reader, takes_option
from envs.worlds.gymnasium_env import GymnasiumEnv


@pytest.fixture
def announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two installed packages that announce environments, as pip lays them out."""
    points = {
        "doors": (
            "door = tests.builders.own_env:Door\n"
            "twice = tests.builders.own_env:Door\n"
            "gone = tests.builders.own_env:Window"
        ),
        "more": "twice = other:Door",
    }
    for name, lines in points.items():
        folder = tmp_path / f"{name}-1.2.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (folder / "entry_points.txt").write_text(f"[agent_rl.environments]\n{lines}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_class_is_found_by_its_module() -> None:
    env = make_env("tests.builders.own_env:Door", locked=True)
    assert env.tasks("train") == []


@pytest.mark.usefixtures("announced")
def test_an_announced_name_is_found() -> None:
    assert type(make_env("door", locked=True)).__name__ == "Door"
    with pytest.raises(
        ValueError, match=r"env.options: door has no option 'loked'; did you mean 'locked'"
    ):
        make_env("door", loked=True)
    with pytest.raises(
        ValueError,
        match=r"'twice' is announced more than once \(other:Door, tests.builders.own_env:Door\)",
    ):
        make_env("twice")
    with pytest.raises(
        ValueError,
        match=r"'gone' is announced as tests.builders.own_env:Window, "
        r"but 'tests.builders.own_env' has no class 'Window'",
    ):
        make_env("gone")
    with pytest.raises(ValueError, match=r"'doar' is not known; did you mean 'door'"):
        make_env("doar")


@pytest.mark.usefixtures("announced")
def test_the_list_names_all_environments_and_their_sources() -> None:
    entries = {entry.id: entry for entry in list_environments()}
    assert list(entries)[: len(BUILT_IN)] == list(BUILT_IN)
    assert all(
        entries[name].source == "built in" and entries[name].summary.endswith(".")
        for name in BUILT_IN
    )
    assert (entries["door"].source, entries["door"].target) == (
        "doors 1.2",
        "tests.builders.own_env:Door",
    )
    assert entries["gone"].summary == ""


def test_the_list_imports_no_backend() -> None:
    code = (
        "import sys; from envs.registry import list_environments; list_environments();"
        "print([m for m in ('alfworld', 'textworld', 'textarena') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_gymnasium_environments_are_wrapped() -> None:
    assert isinstance(make_env("CliffWalking-v1"), GymnasiumEnv)
    assert isinstance(make_env("tests.builders.registered_worlds:Echo-v0"), GymnasiumEnv)
    assert isinstance(make_env("Echo-v0"), GymnasiumEnv), "its module has been imported now"
    assert isinstance(make_env("tests.builders.registered_worlds:Echo"), GymnasiumEnv), (
        "the class itself"
    )


def test_options_are_known_without_building() -> None:
    assert takes_option("tests.builders.own_env:Jammed", "expert")
    assert takes_option("tests.builders.own_env:Door", "locked")
    assert not takes_option("tests.builders.own_env:Door", "expert")
    assert takes_option("taxi", "expert")
    assert not takes_option("FrozenLake-v1", "expert")
    assert takes_option("FrozenLake-v1", "commands")
    assert takes_option("tests.builders.registered_worlds:Lamp-v0", "color")
    with pytest.raises(ValueError, match="did you mean 'taxi'"):
        takes_option("taxii", "expert")


def test_an_environment_reads_its_own_commands() -> None:
    texts = ["Looking quickly around you, you see a bed 1.\n\nYour task is to: put a pen in bed."]
    named = object_reader("alfworld")("go to bed 2", texts)
    assert named is not None
    assert (named.name, named.is_furniture, named.is_known) == ("bed 2", True, False)
    # Wrapped, registered with gymnasium, or without a reader: nobody can tell.
    for env_id in (
        "FrozenLake-v1",
        "tests.builders.registered_worlds:Lamp-v0",
        "tests.builders.own_env:Door",
        "guess-the-number",
    ):
        assert object_reader(env_id)("go to bed 2", texts) is None
    with pytest.raises(ValueError, match="did you mean 'taxi'"):
        object_reader("taxii")


def test_a_module_that_python_cannot_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_env.py").write_text("class Half(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"cannot import 'half_env' for 'half_env:Half': .*half_env\.py, line 1"
    ):
        make_env("half_env:Half")


def test_a_registered_text_env_is_used_as_it_is() -> None:
    lamp = make_env("tests.builders.registered_worlds:Lamp-v0", watts=7)
    assert (type(lamp).__name__, lamp.color, lamp.watts) == ("Lamp", "yellow", 7)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="has no option 'wats'; did you mean 'watts'"):
        make_env("tests.builders.registered_worlds:Lamp-v0", wats=7)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("alfwrold", {}, "env.id: 'alfwrold' is not known; did you mean 'alfworld'?"),
        ("FrozenLke-v1", {}, "did you mean 'FrozenLake-v1'?"),
        ("zzz", {}, "known: alfworld, textworld, .* An id is a built-in name"),
        (
            "no_such_module:Door",
            {},
            "env.id: cannot import 'no_such_module' for 'no_such_module:Door'",
        ),
        (
            "tests.builders.own_env:Window",
            {},
            "'tests.builders.own_env' has no class 'Window'; .* registers no gymnasium "
            "environment of that name",
        ),
        ("tests.builders.own_env:Doo", {}, "has no class 'Doo'; did you mean 'Door'?"),
        (
            "tests.builders.own_env:Door",
            {"loked": True},
            "has no option 'loked'; did you mean 'locked'",
        ),
        (
            "tests.builders.own_env:Door",
            {"expert": True},
            "tests.builders.own_env:Door has no expert",
        ),
        (
            "tests.builders.own_env:Task",
            {},
            "'tests.builders.own_env:Task' is no environment; only subclasses of envs.TextEnv and "
            "gymnasium.Env are made",
        ),
        ("alfworld", {"game": {}}, "has no option 'game'; did you mean 'games'"),
        ("tests.builders.registered_worlds:WORDS", {}, "is a tuple, not a class"),
        ("os:system", {"command": "true"}, "'os:system' is a function, not a class"),
        ("tests.builders.registered_worlds:Half", {}, "is a TextEnv that lacks step; write them"),
        (
            "tests.builders.registered_worlds:Knob-v0",
            {},
            "the actions of tests.builders.registered_worlds:Knob-v0 are Box.* write a TextEnv "
            "around it",
        ),
        (
            "tests.builders.registered_worlds:Echo-v0",
            {"commands": ["a"]},
            "commands: the actions of .* are texts already",
        ),
        (
            "LunarLander-v3",
            {},
            "env.id: 'LunarLander-v3' needs a package that is not installed: Box2D is not "
            "installed",
        ),
        (
            "FrozenLake-v1",
            {"kwargs": {"map": "8x8"}},
            "kwargs: FrozenLake-v1 cannot be made with .*unexpected keyword",
        ),
        (
            "FrozenLake-v1",
            {"commands": ["left"]},
            "commands: .'left'. is not a list of 4 different names",
        ),
        ("FrozenLake-v1", {"map_name": "8x8"}, "FrozenLake-v1 has no option 'map_name'"),
        (
            "FrozenLake-v1",
            {"expert": True},
            "has no expert .*; use random instead, or leave out the warm start",
        ),
        ("CliffWalking-v1", {"train": -1}, "train: -1 is not a whole number"),
    ],
)
def test_what_is_unknown_is_named(env_id: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id, **options)


@pytest.mark.parametrize(
    "env_id",
    ["tests.builders.registered_worlds:make_lamp", "tests.builders.registered_worlds:Note"],
)
def test_nothing_but_an_environment_is_called(env_id: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(ValueError, match=r"only subclasses of envs\.TextEnv and"):
        make_env(env_id, path=str(mark))
    assert not mark.exists()


@pytest.mark.usefixtures("announced")
def test_what_is_named_is_known_without_an_import() -> None:
    assert is_named("alfworld")
    assert is_named("door")
    assert is_named("gone"), "announced, and not there: its package is to blame"
    assert not is_named("FrozenLake-v1")
    assert not is_named("tests.builders.own_env:Door")


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("CartPole-v1", {"success_return": "abc"}, "success_return: 'abc' is not a number"),
        ("CartPole-v1", {"success_return": True}, "success_return: True is not a number"),
        ("FrozenLake-v1", {"commands": [True, False]}, "commands: True is not a text; .* quotes"),
        ("guess-the-number", {"largest": "ten"}, "largest: 'ten' is not a whole number"),
        ("frozen-lake", {"slippery": "perhaps"}, "slippery: 'perhaps' is neither true nor false"),
        ("alfworld", {"data": 2}, "data: 2 is not a text; write it in quotes"),
        ("alfworld", {"games": {"train": "x"}}, "games.train: 'x' is not a whole number"),
    ],
)
def test_an_option_of_another_type_is_refused_when_it_is_made(
    env_id: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_env(env_id, **options)


def test_options_in_texts_are_read() -> None:
    number = make_env("guess-the-number", largest="1e1", train="2", expert="off")
    assert [task.family for task in number.tasks("train")] == ["1 to 10"] * 2
    assert "expert_command" not in number.reset(options={"task": number.tasks("train")[0]})[1]
    lamp = make_env("tests.builders.registered_worlds:Lamp-v0", watts="7")
    assert lamp.watts == 7  # type: ignore[attr-defined]
    # Gymnasium's own class declares no type for this argument, but its default is a bool.
    lake = make_env("FrozenLake-v1", kwargs={"is_slippery": "no"})
    task = lake.tasks("train")[0]
    for _ in range(9):
        lake.reset(seed=0, options={"task": task})
        assert lake.step("action 2")[0] == "1"
