"""The expert that reads: its advice on texts written by hand, and whole games in both engines."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from envs import Task, make_env
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.experts import searcher as alfworld_searcher
from envs.alfworld.experts.searcher import Searcher
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from envs.text_env import NOTHING_HAPPENS
from rollouts import EpisodeSettings
from rollouts.mistakes import Mistakes
from rollouts.players import make_player
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from tests.builders.alfworld_texts import first_text, frame
from tests.builders.kitchen import ID, write_kitchen

SETTINGS = GeneratorSettings(train=24, valid_seen=0, valid_unseen=0, seed=7)
MUG_IN_SINK = """(and (exists (?r - receptacle) (exists (?o - object) (and (inReceptacle ?o ?r)
    (objectType ?o MugType) (receptacleType ?r SinkBasinType)))))"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("alfworld")
    generate_games(root / "games", SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_RL_CACHE", str(root / "cache"))
        yield str(root / "games")


@pytest.fixture
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mugs are on shelves, in drawers, and then anywhere; lamps are in drawers."""
    monkeypatch.setattr(
        alfworld_searcher, "PLACES", {"mug": ("shelf", "drawer"), "desklamp": ("drawer",)}
    )


def advice_after(task: str, *turns: tuple[str, str]) -> str | None:
    """The searcher's advice after these turns, each a command and its answer."""
    searcher = Searcher()
    advice = searcher.start(frame(first_text(task)))
    for command, answer in turns:
        advice = searcher.advise(frame(answer), command)
    return advice


@pytest.mark.usefixtures("_places")
def test_it_looks_where_such_things_are_and_in_the_order_of_the_first_text() -> None:
    turns = [("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a pen 1.")]
    assert advice_after("put a clean mug in fridge") == "go to shelf 2"
    assert advice_after("put a clean mug in fridge", *turns) == "go to shelf 1"
    turns.append(("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see nothing."))
    assert advice_after("put a clean mug in fridge", *turns) == "go to drawer 2"
    assert advice_after("put a clean mug in drawer", *turns) == "go to drawer 2"
    # A mug in a drawer would end the task, so none is there.
    assert advice_after("put a mug in drawer", *turns) == "go to fridge 1"
    turns += [
        (f"go to {place}", f"You arrive at {place}. On the {place}, you see nothing.")
        for place in ("drawer 2", "drawer 1", "fridge 1", "microwave 1")
    ]
    assert advice_after("put a mug in fridge", *turns) == "go to sinkbasin 1"
    turns.append(
        ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see nothing.")
    )
    assert advice_after("put a mug in fridge", *turns) is None


@pytest.mark.usefixtures("_places")
def test_it_opens_what_is_closed_and_takes_what_it_sees() -> None:
    turns = [
        (f"go to shelf {n}", f"You arrive at shelf {n}. On the shelf {n}, you see a pen {n}.")
        for n in (1, 2)
    ]
    turns.append(("go to drawer 2", "You arrive at drawer 2. The drawer 2 is closed."))
    assert advice_after("put a mug in fridge", *turns) == "open drawer 2"
    turns.append(
        (
            "open drawer 2",
            "You open the drawer 2. The drawer 2 is open. In it, you see a mug 3, and a mug 1.",
        )
    )
    assert advice_after("put a mug in fridge", *turns) == "take mug 3 from drawer 2"
    # Somebody closes it, and goes away.
    turns.append(("close drawer 2", "You close the drawer 2."))
    assert advice_after("put a mug in fridge", *turns) == "open drawer 2"
    turns.append(("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a pen 2."))
    assert advice_after("put a mug in fridge", *turns) == "go to drawer 2"


@pytest.mark.usefixtures("_places")
def test_where_going_is_refused_the_place_is_here_already() -> None:
    turns = [
        ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see nothing."),
        ("go to shelf 1", NOTHING_HAPPENS),
    ]
    assert advice_after("put a mug in fridge", *turns) == "examine shelf 1"
    assert (
        advice_after("put a mug in fridge", turns[0], ("  go to shelf 1\n", NOTHING_HAPPENS))
        == "examine shelf 1"
    )
    turns.append(("examine shelf 1", "On the shelf 1, you see a mug 1."))
    assert advice_after("put a mug in fridge", *turns) == "take mug 1 from shelf 1"
    turns.append(("take mug 1 from shelf 1", "You pick up the mug 1 from the shelf 1."))
    assert advice_after("put a hot mug in fridge", *turns) == "go to microwave 1"
    turns.append(("go to microwave 1", NOTHING_HAPPENS))
    assert advice_after("put a hot mug in fridge", *turns) == "heat mug 1 with microwave 1"
    turns.append(("go to fridge 1", NOTHING_HAPPENS))
    assert advice_after("put a mug in fridge", *turns) == "examine fridge 1"


@pytest.mark.usefixtures("_places")
def test_what_is_not_wanted_goes_back_or_wherever_it_is_taken() -> None:
    turns = [
        ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 1, and a pen 1."),
        ("take pen 1 from shelf 2", "You pick up the pen 1 from the shelf 2."),
    ]
    assert advice_after("put a mug in fridge", *turns) == "move pen 1 to shelf 2"
    gone = [*turns, ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")]
    assert advice_after("put a mug in fridge", *gone) == "go to shelf 2"
    refused = [*turns, ("move pen 1 to shelf 2", NOTHING_HAPPENS)]
    assert advice_after("put a mug in fridge", *refused) == "go to drawer 2"
    refused += [
        ("go to drawer 2", "You arrive at drawer 2. The drawer 2 is closed."),
        # Refused because it is closed: that says nothing about pens in drawers.
        ("move pen 1 to drawer 2", NOTHING_HAPPENS),
    ]
    assert advice_after("put a mug in fridge", *refused) == "open drawer 2"
    refused.append(
        ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see nothing.")
    )
    assert advice_after("put a mug in fridge", *refused) == "move pen 1 to drawer 2"
    closed = [
        *refused,
        ("close drawer 2", "You close the drawer 2."),
        ("move pen 1 to drawer 2", NOTHING_HAPPENS),
    ]
    assert advice_after("put a mug in fridge", *closed) == "open drawer 2"
    refused.append(("move pen 1 to drawer 2", "You move the pen 1 to the drawer 2."))
    assert advice_after("put a mug in fridge", *refused) == "go to shelf 2"


@pytest.mark.usefixtures("_places")
def test_what_was_done_to_a_thing_counts_whoever_did_it() -> None:
    task = "cool some mug and put it in drawer"
    turns = [
        ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 2, and a mug 1."),
        ("take mug 2 from shelf 2", "You pick up the mug 2 from the shelf 2."),
    ]
    assert advice_after(task, *turns) == "go to fridge 1"
    turns += [("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.")]
    assert advice_after(task, *turns) == "cool mug 2 with fridge 1"
    turns.append(("cool mug 2 with fridge 1", "You cool the mug 2 using the fridge 1."))
    assert advice_after(task, *turns) == "go to drawer 2"
    heated = [*turns, ("heat mug 2 with microwave 1", "You heat the mug 2 using the microwave 1.")]
    assert advice_after(task, *heated) == "cool mug 2 with fridge 1"
    cleaned = [
        *turns,
        ("clean mug 2 with sinkbasin 1", "You clean the mug 2 using the sinkbasin 1."),
    ]
    assert advice_after(task, *cleaned) == "go to drawer 2"
    turns.append(("go to drawer 2", "You arrive at drawer 2. The drawer 2 is closed."))
    assert advice_after(task, *turns) == "open drawer 2"
    turns.append(
        ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see nothing.")
    )
    assert advice_after(task, *turns) == "move mug 2 to drawer 2"
    other = [*turns, ("move mug 2 to drawer 2", "You move the mug 2 to the drawer 2.")]
    other.append(("take mug 1 from shelf 2", "You pick up the mug 1 from the shelf 2."))
    assert advice_after(task, *other) == "go to fridge 1", "the one that was cooled was another"


@pytest.mark.usefixtures("_places")
def test_two_things_come_together_in_one_place() -> None:
    task = "put two mug in drawer"
    turns = [
        ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 3, and a mug 2."),
        ("take mug 3 from shelf 2", "You pick up the mug 3 from the shelf 2."),
        ("go to drawer 1", "You arrive at drawer 1. On the drawer 1, you see a mug 1."),
    ]
    # The first of the kind is drawer 2, but one is in drawer 1 already.
    assert advice_after(task, *turns[:2]) == "go to drawer 2"
    assert advice_after(task, *turns) == "move mug 3 to drawer 1"
    turns[2] = ("go to drawer 2", "You arrive at drawer 2. On the drawer 2, you see nothing.")
    turns.append(("move mug 3 to drawer 2", "You move the mug 3 to the drawer 2."))
    assert advice_after(task, *turns) == "go to shelf 2", (
        "the one that is here stays, the other was seen on the shelf"
    )
    turns.append(("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 2."))
    assert advice_after(task, *turns) == "take mug 2 from shelf 2"
    apart = [
        (f"go to drawer {n}", f"You arrive at drawer {n}. On the drawer {n}, you see a mug {n}.")
        for n in (2, 1)
    ]
    assert advice_after(task, *apart) == "take mug 1 from drawer 1"
    assert advice_after("put a clean mug in drawer", apart[0]) == "take mug 2 from drawer 2"


@pytest.mark.usefixtures("_places")
def test_a_lamp_that_was_seen_on_the_way_is_remembered() -> None:
    task = "look at mug under the desklamp"
    shelf = ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 1.")
    take = ("take mug 1 from shelf 1", "You pick up the mug 1 from the shelf 1.")
    lamp = ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a desklamp 1.")
    assert advice_after(task, lamp, shelf) == "take mug 1 from shelf 1"
    assert advice_after(task, lamp, shelf, take) == "go to shelf 2"
    assert advice_after(task, lamp, shelf, take, lamp) == "use desklamp 1"
    assert advice_after(task, shelf, take) == "go to drawer 2"
    closed = [
        ("open drawer 2", "The drawer 2 is open. In it, you see a desklamp 2."),
        ("close", "You close the drawer 2."),
    ]
    assert advice_after(task, shelf, take, *closed) == "use desklamp 2", (
        "it works in a closed place, too"
    )


@pytest.mark.usefixtures("_places")
def test_what_is_nearer_is_fetched_first() -> None:
    turns = [
        ("go to shelf 1", "You arrive at shelf 1. On the shelf 1, you see a mug 1."),
        ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 2."),
    ]
    assert advice_after("put a mug in fridge", *turns) == "take mug 2 from shelf 2"
    turns.append(("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."))
    assert advice_after("put a mug in fridge", *turns) == "go to shelf 1"


@pytest.mark.usefixtures("_places")
def test_it_does_not_repeat_what_was_refused() -> None:
    turn = ("go to shelf 2", "You arrive at shelf 2. On the shelf 2, you see a mug 1.")
    assert (
        advice_after("put a mug in fridge", turn, ("take mug 1 from shelf 2", NOTHING_HAPPENS))
        is None
    )
    # Another's mistake changes nothing.
    assert (
        advice_after("put a mug in fridge", turn, ("take mug 9 from bed 2", NOTHING_HAPPENS))
        == "take mug 1 from shelf 2"
    )


@pytest.mark.process
@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_it_wins_all_games_with_the_texts_alone(data: str, engine: str) -> None:
    """It gets nothing but texts: the environment has no expert."""
    env = AlfworldEnv(data=data, engine=engine)
    turns = []
    for task in env.tasks("train")[:: 1 if engine == "native" else 4]:
        searcher = Searcher()
        text, info = env.reset(options={"task": task})
        advice = searcher.start(frame(text))
        sent: list[str] = []
        while not info["success"]:
            assert advice is not None
            assert len(sent) < 30, task.id
            sent.append(advice)
            text, *_, info = env.step(advice)
            advice = searcher.advise(frame(text), advice)
        turns.append(len(sent))
    assert sum(turns) / len(turns) < 10


def test_it_wins_along_anothers_mistakes(data: str) -> None:
    env = AlfworldEnv(data=data, expert=True, expert_type="searcher")
    episodes = [
        asyncio.run(
            run_scripted_episode(
                env,
                task,
                make_player("expert", env, task, 0),
                byte_renderer(),
                EpisodeSettings(max_turns=50, max_action_tokens=200),
                mistakes=Mistakes(0.3, seed=seed),
            )
        )
        for task in env.tasks("train")
        for seed in range(3)
    ]
    mistakes = sum(turn.observation.count("\n> ") for episode in episodes for turn in episode.turns)
    assert len(episodes) == 72
    assert mistakes > 200
    # Some mistakes win, or pick up what can be put down nowhere.
    assert sum(episode.success for episode in episodes) >= 69


@pytest.mark.parametrize("engine", ["native", "textworld"])
def test_a_kitchen_with_places_that_are_near_each_other(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counter and the sink are at one location."""
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(alfworld_searcher, "PLACES", {"mug": ("countertop", "fridge")})
    path = write_kitchen(tmp_path, goal=MUG_IN_SINK)
    path.write_text(
        path.read_text().replace(
            "cool some apple and put it in diningtable", "put a mug in sinkbasin"
        )
    )
    env = AlfworldEnv(data=str(tmp_path), expert=True, expert_type="searcher", engine=engine)
    task = Task(env_id="alfworld", split="train", family="pick_and_place_simple", id=ID)
    _, info = env.reset(options={"task": task})
    mistakes = {
        1: "take bread 1 from countertop 1",
        2: "go to diningtable 1",
        7: "close fridge 1",
        10: "go to countertop 1",
    }
    said: list[tuple[str, str]] = []
    while not info["success"]:
        command = mistakes.get(len(said), info["expert_command"])
        text, *_, info = env.step(command)
        said.append((command, text))
    assert [command for command, _ in said] == [
        "go to countertop 1",
        "take bread 1 from countertop 1",
        "go to diningtable 1",
        "go to countertop 1",
        "move bread 1 to countertop 1",
        "go to fridge 1",
        "open fridge 1",
        "close fridge 1",
        "open fridge 1",
        "take mug 1 from fridge 1",
        "go to countertop 1",
        "go to sinkbasin 1",
        "examine sinkbasin 1",
        "move mug 1 to sinkbasin 1",
    ]
    assert [command for command, text in said if text == NOTHING_HAPPENS] == ["go to sinkbasin 1"]


def test_the_environment_has_it_as_an_option(data: str) -> None:
    env = make_env("alfworld", data=data, expert=True, expert_type="searcher")
    task = env.tasks("train")[0]
    _, info = env.reset(options={"task": task})
    *_, info = env.step(info["expert_command"])
    twin = env.clone()
    advice = info["expert_command"]
    after = env.step(advice)
    env.step("look")
    assert twin.step(advice) == after
    assert (
        "expert_command"
        not in AlfworldEnv(data=data, expert_type="searcher").reset(options={"task": task})[1]
    )
    with pytest.raises(ValueError, match="expert_type: 'clever' is none of handcoded, searcher"):
        AlfworldEnv(data=data, expert_type="clever")
