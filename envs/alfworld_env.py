"""ALFWorld through its own engine, as a text environment."""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.error import ResetNeeded

from envs.alfworld_generator import GeneratorSettings, cached_games
from envs.alfworld_index import broken_game, family_of, game_path, index_games, read_game, resolve_data_folder
from envs.alfworld_layouts import constants, package_folder
from envs.alfworld_speed import remember_what_was_parsed
from envs.task import Task
from envs.text_env import TextEnv

if TYPE_CHECKING:
    from envs.alfworld_expert import HandcodedExpert

_IDLE_ENGINES: dict[bool, list[Any]] = {False: [], True: []}
"""Engines of closed environments, by whether they give facts. An engine is never unloaded: its library is a copy of its
own, whose unloading makes the process crash when it ends."""

ENV_ID = "alfworld"
GENERATED = "generated"


class AlfworldEnv(TextEnv):
    """ALFWorld's games, stepped by textworld's PDDL engine with alfworld's wrappers; the texts are the engine's.

    The reward is 1 at the step that wins and 0 otherwise; an episode ends by winning only. Loading a game costs
    more than resetting it, so episodes of one task are best played in a row. The engine is not thread-safe: use
    one process per thread of work. An engine holds 34 MB until the process ends; `close()` leaves it to the next.
    """

    def __init__(self, data: str = GENERATED, games: Mapping[str, Any] | None = None, expert: bool = False) -> None:
        """Choose the games; nothing heavy is loaded before the first `reset`.

        Args:
            data: `generated`, or a folder in ALFWorld's layout; `~` and `$ALFWORLD_DATA` are expanded.
            games: for `generated`, the fields of `GeneratorSettings` to set.
            expert: put `expert_command` into `info`.

        Raises:
            ValueError: there is no such folder, or a field of `games` is not known or out of range.
        """
        if data != GENERATED and games:
            raise ValueError(f"games: only for data: {GENERATED}, but data is {data!r}; drop one of the two")
        self._settings = GeneratorSettings.from_mapping(games or {})
        self._folder = None if data == GENERATED else resolve_data_folder(data)
        self._with_expert = expert
        self._expert: HandcodedExpert | None = None
        self._engine: Any = None
        self._loaded: Path | None = None
        self._over = True

    @property
    def folder(self) -> Path:
        """The folder that holds the split folders; makes the generated games where that is yet to be done."""
        if self._folder is None:
            self._folder = resolve_data_folder(str(cached_games(self._settings)))
        return self._folder

    def tasks(self, split: str) -> list[Task]:
        """The games of `train`, `valid_seen` or `valid_unseen`, by id.

        Raises:
            ValueError: the split is not known or holds no game, or a game file cannot be read.
        """
        games = index_games(self.folder, split)
        return [Task(env_id=ENV_ID, split=split, family=family, id=game_id) for game_id, family in games.items()]

    def words(self) -> list[str]:
        """The names of all objects and receptacles, as the texts spell them."""
        return sorted({name.lower() for name in (*constants().OBJECTS, *constants().RECEPTACLES)})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`. The game has no chance in it; `seed` is for the expert's choices.

        Raises:
            ValueError: there is no task in `options`, no such game, or its file cannot be played.
        """
        gymnasium.Env.reset(self, seed=seed)
        task = (options or {}).get("task")
        if not isinstance(task, Task):
            raise ValueError(f'reset needs options={{"task": Task(...)}}, one of tasks(split); got {task!r}')
        if task.env_id != ENV_ID:
            raise ValueError(f"task: {task.id!r} is of the environment {task.env_id!r}, not of {ENV_ID!r}")
        path = game_path(self.folder, task.split, task.id)
        family_of(task.id)
        self._over = True
        if path != self._loaded:
            self._load(path)
        with _translator_kept_in(path):
            state = self._engine.reset()
        self._over = False
        advice = None
        if self._with_expert:
            from envs.alfworld_expert import HandcodedExpert

            self._expert = HandcodedExpert(task.id, task.seed if seed is None else seed)
            advice = self._expert.start(state)
        return state["feedback"].strip(), self._info(state, advice)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command; an inadmissible one is answered with "Nothing happens.".

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise ResetNeeded("the episode is over or has not begun: call reset(options={'task': task}) first")
        state, score, done = self._engine.step(action)
        self._over = bool(done)
        advice = None
        if self._expert is not None and not self._over:
            advice = self._expert.advise(state, action)
        return state["feedback"].strip(), float(score), self._over, False, self._info(state, advice)

    def close(self) -> None:
        """Leave the engine to the next environment of this process. This one may be reset again afterwards."""
        if self._engine is not None:
            _IDLE_ENGINES[self._with_expert].append(self._engine)
        self._engine, self._loaded, self._over = None, None, True

    def _load(self, path: Path) -> None:
        self._loaded = None
        read_game(path)
        _import_alfworld()
        with _translator_kept_in(path):
            if self._engine is None and _IDLE_ENGINES[self._with_expert]:
                self._engine = _IDLE_ENGINES[self._with_expert].pop()
            if self._engine is None:
                self._engine = _start_engine(path, facts=self._with_expert)
            else:
                self._engine.load(str(path))
        self._loaded = path

    def _info(self, state: Any, advice: str | None) -> dict[str, Any]:
        info = {"success": bool(state["won"]), "admissible_commands": list(state["admissible_commands"])}
        if advice is not None:
            info["expert_command"] = advice
        return info


def _start_engine(path: Path, *, facts: bool) -> Any:
    """An engine with the game loaded; `facts` are what the expert reads, and cost time at every step."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos

    infos = textworld.EnvInfos(won=True, admissible_commands=True, facts=facts)
    return textworld.start(str(path), infos, wrappers=[AlfredDemangler(shuffle=False), AlfredInfos])


def _import_alfworld() -> None:
    """Import alfworld, which would set `ALFWORLD_DATA` and make that folder: point it to one that exists meanwhile."""
    value = os.environ.get("ALFWORLD_DATA")
    os.environ["ALFWORLD_DATA"] = str(package_folder())
    try:
        importlib.import_module("alfworld.agents.environment.alfred_tw_env")
        remember_what_was_parsed()
    finally:
        if value is None:
            del os.environ["ALFWORLD_DATA"]
        else:
            os.environ["ALFWORLD_DATA"] = value


@contextmanager
def _translator_kept_in(path: Path) -> Iterator[None]:
    """The PDDL translator overwrites `sys.argv`, swaps `sys.stdout` and raises `SystemExit` on a bad problem."""
    argv, stdout = sys.argv, sys.stdout
    try:
        yield
    except (OSError, MemoryError):
        raise
    except (SystemExit, Exception) as error:
        # Each of the engine's four parsers has its own exceptions for text that it cannot read.
        raise broken_game(path, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    finally:
        sys.argv, sys.stdout = argv, stdout
