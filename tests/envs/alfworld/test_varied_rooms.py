"""Varied rooms: other furniture, things elsewhere, and the same task, which can be won."""

import asyncio
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.alfworld.data import game_path, index_games
from envs.alfworld.engines.game import Game, build_game, load_game, parse_problem
from envs.alfworld.engines.game_file import Problem, read_problem
from envs.alfworld.engines.rules import intro, step
from envs.alfworld.engines.state import State
from envs.alfworld.env import AlfworldEnv
from envs.alfworld.furniture import Kind, Piece, Room, room_of
from envs.alfworld.names import FAMILIES
from envs.alfworld.permuted_names import permuted_names
from envs.alfworld.varied_rooms import VariedRoom, vary_room
from rollouts import EpisodeSettings
from rollouts.players import make_player
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from tests.builders.kitchen import kitchen

DRAWER = Kind("drawer_bar_{}", "drawertype")
TOASTER = Kind("toaster_bar_{}", "toastertype")
TABLE = Kind("diningtable_bar_{}", "diningtabletype")


def piece(place: str, kind: Kind, location: str, beside: str = "") -> Piece:
    return Piece(id=place, kind=kind, location=location, openable=kind is DRAWER, beside=beside)


OTHER_KITCHEN = Room(
    pieces=(
        piece("diningtable_bar_1", TABLE, "table"),
        piece("drawer_bar_1", DRAWER, "drawers"),
        piece("drawer_bar_2", DRAWER, "drawers"),
        piece("toaster_bar_1", TOASTER, "corner", beside="countertop_bar_{}"),
    ),
    things=(("knife_bar_7", "knifetype", DRAWER), ("mug_bar_7", "mugtype", TABLE)),
)
"""A table, two drawers that stand together, and a toaster that stood beside a counter."""


def varied_kitchen(seed: int, others: Sequence[Room] = (OTHER_KITCHEN,)) -> Problem:
    problem = read_problem(kitchen())
    return vary_room(problem, room_of(problem, "1"), others, random.Random(seed))


def counts(game: Game) -> Counter[str]:
    return Counter(name.split()[0] for name in game.receptacles)


def test_each_kind_has_at_most_the_pieces_that_one_of_the_rooms_has() -> None:
    """The kitchen has two tables and one each of counter, sink, microwave and fridge.

    The task is to cool an apple and put it on a table. The apple is on the counter and in the
    sink. So the microwave may be missing, and nothing else of the kitchen but a second table.
    """
    drawn = [counts(build_game(varied_kitchen(seed))) for seed in range(1000)]
    for kind, numbers in {
        "countertop": {1},
        "sinkbasin": {1},
        "fridge": {1},
        "microwave": {0, 1},
        "diningtable": {1, 2},
        "drawer": {0, 1, 2},
        "toaster": {0, 1},
    }.items():
        assert {count[kind] for count in drawn} == numbers, kind
    assert len({tuple(sorted(count.items())) for count in drawn}) == 2 * 2 * 3 * 2


def test_pieces_stand_together_as_in_the_room_that_they_come_from() -> None:
    first_tables = set()
    for seed in range(50):
        game = build_game(varied_kitchen(seed))
        at = {name: place.location for name, place in game.receptacles.items()}
        assert at["countertop 1"] == at["sinkbasin 1"]
        assert at.get("drawer 2") in (None, at.get("drawer 1"))
        assert at.get("toaster 1") in (None, at["countertop 1"])
        assert len(set(at.values())) >= len(at) - 3
        assert game.start not in at.values()
        first_tables.add(at["diningtable 1"])
    assert first_tables == {"loc_bar_4_of_1", "loc_bar_5_of_1", "table"}, "numbers are by lot"


def test_things_lie_where_such_things_lie_in_one_of_the_rooms() -> None:
    """Mugs are in the fridge here and on a table there, knives on the counter or in a drawer."""
    places: dict[str, set[str]] = {}
    for seed in range(100):
        game = build_game(varied_kitchen(seed))
        for place, things in game.contents.items():
            for thing in things:
                places.setdefault(thing.name, set()).add(place.name)
    assert places["mug 1"] == {"fridge 1", "diningtable 1", "diningtable 2"}
    assert places["knife 1"] == {"countertop 1", "drawer 1", "drawer 2"}
    assert places["apple 1"] == {"countertop 1", "sinkbasin 1"}
    assert "window 1" not in places


def test_a_thing_without_a_place_is_gone() -> None:
    """The lamp is in the microwave, and no other room has a lamp."""
    games = [build_game(varied_kitchen(seed)) for seed in range(50)]
    for game in games:
        assert ("desklamp 1" in game.things) == ("microwave 1" in game.receptacles)
        assert {"apple 1", "bread 1", "egg 1", "knife 1", "mug 1", "plate 1"} <= game.things.keys()
    assert {"desklamp 1" in game.things for game in games} == {True, False}


def test_new_furniture_takes_what_the_package_says() -> None:
    """Drawers take knives and no mugs; a toaster takes no whole thing of this kitchen."""
    accepted = set()
    for seed in range(50):
        for row in varied_kitchen(seed).facts["cancontain"]:
            if row[0] in ("drawertype", "toastertype", "fridgetype"):
                accepted.add(tuple(row))
    assert accepted == {("fridgetype", "appletype"), ("drawertype", "knifetype")}


def test_what_moves_is_sliced_at_its_new_place_and_holds_nothing() -> None:
    for seed in range(20):
        game = build_game(varied_kitchen(seed))
        spots = {thing.name: location for thing, location in game.spots}
        for place, things in game.contents.items():
            for thing in things:
                assert spots.get(thing.name, place.location) == place.location
        assert game.things["plate 1"].holds == ()


def test_the_same_seed_makes_the_same_game() -> None:
    first, again, other = (varied_kitchen(seed) for seed in (1, 1, 2))
    assert first == again != other
    problem = read_problem(kitchen())
    assert (first.goal, first.sentence) == (problem.goal, problem.sentence)
    assert problem == read_problem(kitchen()), "the game's own problem is left as it was"


def wins_by_knowing(game: Game) -> bool:
    """Whether the commands of someone who knows the places of all things win the game."""
    state, goal = State(game), game.goal

    def go_into(place: Any) -> None:
        step(state, f"go to {place.name}")
        step(state, f"open {place.name}")

    lying = {thing: place for place, things in game.contents.items() for thing in things}
    wanted = [thing for thing in lying if thing.type == goal.thing]
    for thing in wanted[: goal.count]:
        go_into(lying[thing])
        step(state, f"take {thing.name} from {lying[thing].name}")
        if goal.lamp:
            lamp = next(thing for thing in lying if thing.type == goal.target)
            go_into(lying[lamp])
            step(state, f"use {lamp.name}")
            break
        for tool in [place for place in game.receptacles.values() if place.tool == goal.verb][:1]:
            go_into(tool)
            step(state, f"{goal.verb} {thing.name} with {tool.name}")
        go_into(game.targets[0])
        step(state, f"move {thing.name} to {game.targets[0].name}")
    return state.won


def listing(game: Game) -> list[str]:
    """The furniture as the first text lists it."""
    text = re.search(r"you see (.*)\.$", intro(State(game)), re.MULTILINE)
    assert text is not None
    return re.findall(r"\ba (\w+ \d+)(?:,|$)", text[1].replace("and a ", "a "))


def test_varied_games_can_be_won_and_read_like_others(data: str) -> None:
    """Games of all families, each in ten rooms."""
    folder = Path(data) / "json_2.1.1"
    lists, families = set(), set()
    for game in index_games(folder, "train"):
        path = game_path(folder, "train", game.id)
        own = load_game(path)
        assert wins_by_knowing(own)
        families.add(game.family)
        for number in range(10):
            vary = VariedRoom(
                seed=str(number), scene=game.scene, folder=folder, held_out=frozenset()
            )
            varied = build_game(vary(parse_problem(path)))
            assert not State(varied).won
            assert wins_by_knowing(varied), (game.id, number)
            count = counts(varied)
            assert listing(varied) == [
                f"{kind} {number}" for kind in sorted(count) for number in range(count[kind], 0, -1)
            ]
            assert intro(State(varied)).endswith(own.sentence)
            lists.add((game.id, tuple(listing(varied))))
    assert families == set(FAMILIES)
    assert len(lists) > 60


def test_a_game_is_varied_once_for_each_seed(data: str) -> None:
    folder = Path(data) / "json_2.1.1"
    game = index_games(folder, "train")[0]
    path = game_path(folder, "train", game.id)

    def loaded(seed: str) -> Game:
        vary = VariedRoom(seed=seed, scene=game.scene, folder=folder, held_out=frozenset())
        return load_game(path, vary)

    assert loaded("a") is loaded("a")
    assert loaded("a") is not loaded("b")
    assert loaded("a").walkthrough == () != load_game(path).walkthrough


def test_training_games_appear_once_more_for_each_variation(data: str) -> None:
    own = [task.id for task in AlfworldEnv(data=data).tasks("train")]
    env = AlfworldEnv(data=data, room_variations=2)
    tasks = env.tasks("train")
    assert [task.id for task in tasks[:3]] == [own[0], f"{own[0]}@1", f"{own[0]}@2"]
    assert len(tasks) == 3 * len(own)
    assert len({(task.family, task.scene, task.difficulty) for task in tasks[:3]}) == 1
    for split in ("valid_seen", "valid_unseen"):
        assert not any("@" in task.id for task in env.tasks(split))
    both = AlfworldEnv(data=data, room_variations=2, entity_permutations=1).tasks("train")
    endings = [task.id.removeprefix(own[0]) for task in both[:4]]
    assert endings == ["", "~1", "@1~1", "@2~2"]
    assert len({task.id for task in both}) == len(both) == 4 * len(own)


def test_a_varied_room_can_have_permuted_names_too(data: str) -> None:
    env = AlfworldEnv(data=data, room_variations=1, entity_permutations=1)
    own, _, both = env.tasks("train")[:3]
    varied = replace(own, id=f"{own.id}@1")
    names = permuted_names(both.id, 1)
    text, info = env.reset(options={"task": varied})
    permuted, permuted_info = env.reset(options={"task": both})
    assert permuted == names.text(text) != text
    commands = [names.text(command) for command in info["admissible_commands"]]
    assert permuted_info["admissible_commands"] == commands


def test_the_searcher_wins_varied_games(data: str) -> None:
    env = AlfworldEnv(data=data, room_variations=3, expert=True, expert_type="searcher")
    plain = AlfworldEnv(data=data)
    texts = set()
    for task in env.tasks("train"):
        player = make_player("expert", env, task, seed=0)
        episode = asyncio.run(
            run_scripted_episode(env, task, player, byte_renderer(), EpisodeSettings(max_turns=50))
        )
        assert episode.success, task.id
        texts.add(plain.reset(options={"task": task})[0])
    assert len(texts) > len(plain.tasks("train")) * 2


def test_rooms_are_drawn_without_those_held_out(data: str) -> None:
    """Where all other scenes of its type are held out, only the game's own room is left."""
    tasks = AlfworldEnv(data=data).tasks("train")
    scene = tasks[0].scene
    alike = {task.scene for task in tasks if task.scene[:-2] == scene[:-2]} - {scene}
    assert alike, "else the test shows nothing"
    env = AlfworldEnv(
        data=data, held_out_scenes=[int(other) for other in alike], room_variations=20
    )
    (own, *_) = env.tasks("train")
    allowed = set(counts(load_game(game_path(env.folder, "train", own.id))))
    for task in env.tasks("train")[1:21]:
        text, _ = env.reset(options={"task": task})
        room = re.search(r"you see (.*)\.$", text, re.MULTILINE)
        assert room is not None
        assert set(re.findall(r"\ba (\w+) \d", room[1])) <= allowed
    assert not any("@" in task.id for task in env.tasks("train_unseen_rooms"))


def test_a_clone_continues_the_varied_game(data: str) -> None:
    env = AlfworldEnv(data=data, room_variations=1)
    _, info = env.reset(options={"task": env.tasks("train")[1]})
    go = info["admissible_commands"][0]
    assert env.clone().step(go) == env.step(go)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"room_variations": -1}, "room_variations: -1 is not a whole number of at least 0"),
        ({"room_variations": 1.5}, "room_variations: 1.5 is not a whole number"),
        (
            {"room_variations": 1, "engine": "textworld"},
            "^room_variations: 1, but the textworld engine .*; set engine: native",
        ),
    ],
)
def test_bad_options_are_refused(data: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlfworldEnv(data=data, **options)


def test_only_rooms_of_training_are_varied(data: str) -> None:
    env = AlfworldEnv(data=data, room_variations=1)
    task = env.tasks("train")[0]
    with pytest.raises(ValueError, match="'x' is not the number of a room variation; use one of"):
        env.reset(options={"task": replace(task, id=f"{task.id}@x")})
    seen = env.tasks("valid_seen")[0]
    with pytest.raises(ValueError, match="only rooms that train may show are varied"):
        env.reset(options={"task": replace(seen, id=f"{seen.id}@1")})
    held_out = AlfworldEnv(data=data, held_out_scenes=[int(task.scene)])
    with pytest.raises(ValueError, match="only rooms that train may show are varied"):
        held_out.reset(options={"task": replace(task, id=f"{task.id}@1")})
