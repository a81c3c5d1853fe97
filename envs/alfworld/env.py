"""ALFWorld as a text environment, stepped by one of two engines."""

from collections.abc import Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import gymnasium

from envs.alfworld.data import family_of, game_path, index_games, resolve_data_folder
from envs.alfworld.engines.engine import Engine, Frame
from envs.alfworld.engines.native import NativeEngine
from envs.alfworld.engines.stock import TextworldEngine
from envs.alfworld.experts.searcher import Searcher
from envs.alfworld.generator.generate import GeneratorSettings, cached_games
from envs.alfworld.names import SPLITS, TRAIN
from envs.alfworld.package import constants
from envs.alfworld.permuted_names import Renaming, renaming_of
from envs.task import Task
from envs.text_env import TextEnv, reset_needed, task_in

if TYPE_CHECKING:
    from envs.alfworld.experts.handcoded import HandcodedExpert

ENV_ID = "alfworld"
HANDCODED, SEARCHER = EXPERT_TYPES = ("handcoded", "searcher")
GENERATED = "generated"
RENAMED = "~"
"""Between a game's id and the number of the renaming it is played in."""
ENGINES: dict[str, type[NativeEngine] | type[TextworldEngine]] = {
    "native": NativeEngine,
    "textworld": TextworldEngine,
}


class AlfworldEnv(TextEnv):
    """ALFWorld's games: household tasks of six families, in rooms of up to forty pieces of
    furniture.

    The reward is 1 at the step that wins and 0 otherwise; an episode ends by winning only. The
    engines give the same texts, commands and rewards (`agent-rl games verify` compares them); the
    native one is thousands of times faster, and refuses a game that holds anything it has no rule
    for.
    """

    splits = SPLITS

    def __init__(
        self,
        data: str = GENERATED,
        games: Mapping[str, Any] | None = None,
        expert: bool = False,
        engine: str = "native",
        expert_type: str = "handcoded",
        renamed: int = 0,
    ) -> None:
        """Choose the games; nothing heavy is loaded before the first `reset`.

        Args:
            data: `generated`, or a folder in ALFWorld's layout; `~` and `$ALFWORLD_DATA` are
            expanded.
            games: for `generated`, the fields of `GeneratorSettings` to set.
            expert: put `expert_command` into `info`.
            engine: `native`, or `textworld` for the stock engine, which is not thread-safe: one
            thread per process.
            expert_type: `handcoded`, the alfworld package's, or `searcher`, which reads the texts
            and nothing else.
            renamed: how many more times each game of `train` is there with other names for its
                things (`Renaming`), so that no room can be learned by heart. Not for the handcoded
                expert, who knows the game's own names.

        Raises:
            ValueError: there is no such folder, engine or expert, or a field of `games` is not
                known or out of range; or `renamed` is no number from 0 on, or the expert is
                handcoded.
        """
        if data != GENERATED and games:
            raise ValueError(
                f"games: only for data: {GENERATED}, but data is {data!r}; drop one of the two"
            )
        if engine not in ENGINES:
            raise ValueError(f"engine: {engine!r} is none of {', '.join(ENGINES)}")
        if expert_type not in EXPERT_TYPES:
            raise ValueError(f"expert_type: {expert_type!r} is none of {', '.join(EXPERT_TYPES)}")
        if isinstance(renamed, bool) or not isinstance(renamed, int) or renamed < 0:
            raise ValueError(
                f"renamed: {renamed!r} is no whole number from 0 on: how often to rename each game"
            )
        if renamed and expert and expert_type == HANDCODED:
            raise ValueError(
                f"renamed: {renamed}, but the {HANDCODED} expert knows the games' own names only; set expert_type: "
                f"{SEARCHER}, or renamed: 0"
            )
        self._renamed = renamed
        self._renaming: Renaming | None = None
        self._settings = GeneratorSettings.from_mapping(games or {})
        self._folder = None if data == GENERATED else resolve_data_folder(data)
        self._with_expert = expert
        self._expert_type = expert_type
        self._expert: HandcodedExpert | Searcher | None = None
        self._engine: Engine = ENGINES[engine](facts=expert and expert_type == HANDCODED)
        self._over = True

    @property
    def folder(self) -> Path:
        """The folder that holds the split folders; makes the generated games where that is yet to
        be done.
        """
        if self._folder is None:
            self._folder = resolve_data_folder(str(cached_games(self._settings)))
        return self._folder

    def tasks(self, split: str) -> list[Task]:
        """The games of `train`, `valid_seen` or `valid_unseen`, by id; difficulty is the length of
        the walkthrough.

        A renamed game has its number behind its id: `.../trial_1~2`.

        Raises:
            ValueError: the split is not known or holds no game, or a game file cannot be read.
        """
        endings = [
            "",
            *(f"{RENAMED}{number}" for number in range(1, self._renamed + 1) if split == TRAIN),
        ]
        return [
            Task(
                env_id=ENV_ID,
                split=split,
                family=game.family,
                id=f"{game.id}{ending}",
                scene=game.scene,
                difficulty=game.commands,
            )
            for game in index_games(self.folder, split)
            for ending in endings
        ]

    def words(self) -> list[str]:
        """The names of all objects and receptacles that its games may hold, as the texts spell
        them.
        """
        things = self._settings.object_types or constants().OBJECTS
        places = self._settings.receptacle_types or constants().RECEPTACLES
        return sorted({name.lower() for name in (*things, *places)})

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`. The game has no chance in it; `seed` is for the
        expert's choices.

        Raises:
            ValueError: there is no task in `options`, no such game, or its file cannot be played.
        """
        gymnasium.Env.reset(self, seed=seed)
        task = task_in(options, ENV_ID)
        game_id, _, number = task.id.partition(RENAMED)
        if number and not number.isdecimal():
            raise ValueError(
                f"task: {task.id!r}: {number!r} is no number of a renaming; use one of tasks(split)"
            )
        path = game_path(self.folder, task.split, game_id)
        family_of(game_id)
        self._over = True
        self._renaming = renaming_of(task.id, int(number)) if number else None
        frame = self._shown(self._engine.reset(path))
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
        frame = self._shown(
            self._engine.step(self._renaming.command(action) if self._renaming else action)
        )
        self._over = frame.done
        advice = None
        if self._expert is not None and not self._over:
            advice = self._expert.advise(frame, action)
        return frame.text, frame.reward, self._over, False, _info(frame, advice)

    def _shown(self, frame: Frame) -> Frame:
        return self._renaming.frame(frame) if self._renaming else frame

    def _make_expert(self, game_id: str, seed: int) -> "HandcodedExpert | Searcher":
        if self._expert_type == SEARCHER:
            return Searcher()
        from envs.alfworld.experts.handcoded import HandcodedExpert

        return HandcodedExpert(game_id, seed)

    def clone(self) -> Self:
        """A second environment in the same state, in microseconds; the engines share the game.

        Raises:
            NotImplementedError: the engine is `textworld`.
        """
        twin = copy(self)
        twin._engine = self._engine.clone()
        twin._expert = deepcopy(self._expert)
        return twin

    def close(self) -> None:
        """Leave what is loaded to the next environment of this process. This one may be reset again
        afterwards.
        """
        self._engine.close()
        self._over = True


def _info(frame: Frame, advice: str | None) -> dict[str, Any]:
    info = {"success": frame.won, "admissible_commands": list(frame.commands)}
    if advice is not None:
        info["expert_command"] = advice
    return info
