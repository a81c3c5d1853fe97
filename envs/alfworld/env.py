"""ALFWorld as a text environment, stepped by one of two engines."""

from collections.abc import Mapping, Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium

from envs.alfworld.data import (
    IndexedGame,
    family_of,
    game_path,
    index_games,
    resolve_data_folder,
    scene_of,
)
from envs.alfworld.engines.engine import Engine, Frame
from envs.alfworld.engines.native import NativeEngine
from envs.alfworld.engines.stock import TextworldEngine
from envs.alfworld.experts.notes import read_object
from envs.alfworld.experts.searcher import Searcher
from envs.alfworld.generator.generate import GeneratorSettings, cached_games
from envs.alfworld.names import SPLITS, TRAIN, TRAIN_UNSEEN_ROOMS
from envs.alfworld.package import constants
from envs.alfworld.permuted_names import PermutedNames, permuted_names
from envs.alfworld.varied_rooms import VariedRoom
from envs.options import checked_int
from envs.task import Task
from envs.text_env import NamedObject, TextEnv, reset_needed, task_in

if TYPE_CHECKING:
    from envs.alfworld.experts.handcoded import HandcodedExpert

ENV_ID = "alfworld"
HANDCODED, SEARCHER = EXPERT_TYPES = ("handcoded", "searcher")
GENERATED = "generated"
VARIED, PERMUTED = "@", "~"
"""They stand before the numbers of a game's room and names: `.../trial_1@3`, `.../trial_1~2`, or
both, `.../trial_1@3~3`."""
NATIVE = "native"
ENGINES: dict[str, type[NativeEngine] | type[TextworldEngine]] = {
    NATIVE: NativeEngine,
    "textworld": TextworldEngine,
}


class AlfworldEnv(TextEnv):
    """ALFWorld's games: household tasks of six families, in rooms of up to forty pieces of
    furniture.

    The reward is 1 at the step that wins and 0 otherwise. Only winning ends an episode. Both
    engines give the same texts, commands and rewards (`agent-rl games verify` compares them). The
    native one is thousands of times faster, and refuses a game if it has no rule for a part of it.
    """

    splits: tuple[str, ...] = SPLITS

    def __init__(
        self,
        data: str = GENERATED,
        games: Mapping[str, Any] | None = None,
        expert: bool = False,
        engine: str = NATIVE,
        expert_type: str = HANDCODED,
        entity_permutations: int = 0,
        room_variations: int = 0,
        held_out_scenes: Sequence[int] = (),
    ) -> None:
        """Choose the games; nothing heavy is loaded before the first `reset`.

        Args:
            data: `generated`, or a folder in ALFWorld's layout; `~` and `$ALFWORLD_DATA` are
                expanded.
            games: for `generated`, the fields of `GeneratorSettings` to set.
            expert: put `expert_command` into `info`.
            engine: `native`, or `textworld` for the stock engine, which is not thread-safe: use one
                thread per process.
            expert_type: `handcoded`, the alfworld package's, or `searcher`, which reads nothing but
                the texts.
            entity_permutations: data augmentation. Each game of `train` appears this many more
                times, with the names of its things permuted (`PermutedNames`). The handcoded expert
                cannot play such games, since it knows the game's own names.
            room_variations: data augmentation. Each game of `train` appears this many more times
                in a room with other furniture, and with its things elsewhere (`VariedRoom`). If
                names are permuted, they are in these games too.
            held_out_scenes: numbers of floor plans. Their games are not in `train`, but a split of
                their own, `train_unseen_rooms`: does a policy carry over to rooms that it has never
                seen?

        Raises:
            ValueError: there is no such folder, engine or expert; a field of `games` is unknown or
                out of range; `entity_permutations` or `room_variations` is no whole number from 0
                on; the first is not 0 with the handcoded expert, or the second with the textworld
                engine.
        """
        if data != GENERATED and games:
            raise ValueError(
                f"games: only for data: {GENERATED}, but data is {data!r}; drop one of the two"
            )
        _check_choice("engine", engine, tuple(ENGINES))
        _check_choice("expert_type", expert_type, EXPERT_TYPES)
        _check_permutations(entity_permutations, handcoded=expert and expert_type == HANDCODED)
        _check_variations(room_variations, engine)
        self._permutations = entity_permutations
        self._variations = room_variations
        self._names: PermutedNames | None = None
        self._held_out = frozenset(map(_scene, held_out_scenes))
        if self._held_out:
            self.splits = (*SPLITS, TRAIN_UNSEEN_ROOMS)
        self._settings = GeneratorSettings.from_mapping(games or {})
        self._folder = None if data == GENERATED else resolve_data_folder(data)
        self._with_expert = expert
        self._expert_type = expert_type
        self._expert: HandcodedExpert | Searcher | None = None
        self._engine: Engine = ENGINES[engine](facts=expert and expert_type == HANDCODED)
        self._over = True

    @property
    def folder(self) -> Path:
        """The folder that holds the split folders; generates the games if they do not exist yet."""
        if self._folder is None:
            self._folder = resolve_data_folder(str(cached_games(self._settings)))
        return self._folder

    def tasks(self, split: str) -> list[Task]:
        """The games of a split, by id; those of `train` each with its permutations and variations.

        The difficulty is the length of the walkthrough, for all of them that of the game itself.

        Raises:
            ValueError: the split is not known or holds no game, a game file cannot be read, or no
                game of `train` is in a scene that is held out.
        """
        endings = [""]
        if split == TRAIN:
            endings += [f"{PERMUTED}{number}" for number in range(1, self._permutations + 1)]
            for number in range(1, self._variations + 1):
                names = f"{PERMUTED}{number}" if self._permutations else ""
                endings.append(f"{VARIED}{number}{names}")
        return [
            Task(
                env_id=ENV_ID,
                split=split,
                family=game.family,
                id=f"{game.id}{ending}",
                scene=game.scene,
                difficulty=game.commands,
            )
            for game in self._games(split)
            for ending in endings
        ]

    def _games(self, split: str) -> list[IndexedGame]:
        if not self._held_out or split not in (TRAIN, TRAIN_UNSEEN_ROOMS):
            return index_games(self.folder, split)
        games = index_games(self.folder, TRAIN)
        if missing := self._held_out - {game.scene for game in games}:
            raise ValueError(
                f"held_out_scenes: no game of {TRAIN} is in scene {', '.join(sorted(missing))}; "
                "leave it out"
            )
        wanted = split == TRAIN_UNSEEN_ROOMS
        chosen = [game for game in games if (game.scene in self._held_out) is wanted]
        if not chosen:
            raise ValueError(
                f"held_out_scenes: no game of {TRAIN} is left; hold out fewer of its scenes"
            )
        return chosen

    def words(self) -> list[str]:
        """The names of all objects and receptacles of its games, as the texts spell them."""
        things = self._settings.object_types or constants().OBJECTS
        places = self._settings.receptacle_types or constants().RECEPTACLES
        return sorted({name.lower() for name in (*things, *places)})

    @classmethod
    def object_named(cls, command: str, texts: Sequence[str]) -> NamedObject | None:
        """The furniture of a "go to" or the thing of a "take", see `read_object`."""
        return read_object(command, texts)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`.

        The game itself draws nothing at random; `seed` (default: the task's) is for the expert.

        Raises:
            ValueError: there is no task in `options`, no such game, or its file cannot be played.
        """
        gymnasium.Env.reset(self, seed=seed)
        task = task_in(options, ENV_ID)
        game_id, room, names = _read_id(task.id)
        split = TRAIN if task.split == TRAIN_UNSEEN_ROOMS else task.split
        path = game_path(self.folder, split, game_id)
        family_of(game_id)  # raises if the folder's name is no game's
        vary = self._varied_room(task, game_id, room) if room else None
        self._over = True
        self._names = permuted_names(task.id, names) if names else None
        frame = self._as_shown(self._engine.reset(path, vary))
        self._over = False
        advice = None
        if self._with_expert:
            self._expert = self._make_expert(task.id, task.seed if seed is None else seed)
            advice = self._expert.start(frame)
        return frame.text, _info(frame, advice)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command; an inadmissible one is answered with "Nothing happens.".

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise reset_needed()
        command = self._names.command(action) if self._names else action
        frame = self._as_shown(self._engine.step(command))
        self._over = frame.done
        advice = None
        if self._expert is not None and not self._over:
            advice = self._expert.advise(frame, action)
        return frame.text, frame.reward, self._over, False, _info(frame, advice)

    def _varied_room(self, task: Task, game_id: str, number: int) -> VariedRoom:
        scene = scene_of(game_id)
        if task.split != TRAIN or scene in self._held_out:
            raise ValueError(
                f"task: {task.id!r}: only rooms that {TRAIN} may show are varied; "
                "use one of tasks(split)"
            )
        return VariedRoom(
            seed=f"{game_id}{VARIED}{number}",
            scene=scene,
            folder=self.folder,
            held_out=self._held_out,
        )

    def _as_shown(self, frame: Frame) -> Frame:
        """The frame as the player reads it."""
        return self._names.frame(frame) if self._names else frame

    def _make_expert(self, game_id: str, seed: int) -> "HandcodedExpert | Searcher":
        if self._expert_type == SEARCHER:
            return Searcher()
        # Imported late: this module imports the alfworld package, which takes seconds.
        from envs.alfworld.experts.handcoded import HandcodedExpert

        return HandcodedExpert(game_id, seed)

    def clone(self) -> Self:
        """A second environment in the same state, in microseconds; both share the parsed game.

        Raises:
            NotImplementedError: the engine is `textworld`.
        """
        twin = copy(self)
        twin._engine = self._engine.clone()
        twin._expert = deepcopy(self._expert)
        return twin

    def close(self) -> None:
        """Release the engine for the next environment of this process; `reset` takes one again."""
        self._engine.close()
        self._over = True


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: {value!r} is none of {', '.join(choices)}")


def _scene(number: int) -> str:
    """The scene as tasks name it."""
    return str(checked_int("env.options: held_out_scenes", number, 1))


def _check_permutations(value: int, *, handcoded: bool) -> None:
    checked_int("env.options: entity_permutations", value, 0)
    if value and handcoded:
        raise ValueError(
            f"entity_permutations: {value}, but the {HANDCODED} expert knows the games' own names "
            f"only; set expert_type: {SEARCHER}, or entity_permutations: 0"
        )


def _check_variations(value: int, engine: str) -> None:
    checked_int("env.options: room_variations", value, 0)
    if value and engine != NATIVE:
        raise ValueError(
            f"room_variations: {value}, but the {engine} engine plays games only as their files "
            f"have them; set engine: {NATIVE}, or room_variations: 0"
        )


def _read_id(task_id: str) -> tuple[str, int, int]:
    """The game's own id, and the numbers of its room and of its names, 0 for its own.

    >>> _read_id("pick/trial_1@3~2")
    ('pick/trial_1', 3, 2)
    """
    rest, _, names = task_id.partition(PERMUTED)
    game_id, _, room = rest.partition(VARIED)
    for number, meaning in ((names, "permutation"), (room, "room variation")):
        if number and not number.isdecimal():
            raise ValueError(
                f"task: {task_id!r}: {number!r} is not the number of a {meaning}; "
                "use one of tasks(split)"
            )
    return game_id, int(room or 0), int(names or 0)


def _info(frame: Frame, advice: str | None) -> dict[str, Any]:
    info = {"success": frame.won, "admissible_commands": list(frame.commands)}
    if advice is not None:
        info["expert_command"] = advice
    return info
