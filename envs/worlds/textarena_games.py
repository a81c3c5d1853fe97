"""TextArena's single-player games as text environments."""

import contextlib
import io
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium

from envs.nearest import hint
from envs.options import read_as
from envs.task import Task
from envs.text_env import TEXT_CHARSET, TextEnv, reset_needed, task_in
from envs.worlds.seeded_tasks import check_counts, seeded_task, task_seeds

ENV_ID = "textarena"

_MOVES = ("[up]", "[down]", "[left]", "[right]")
_COMMANDS = {
    "GuessTheNumber-v0": tuple(f"[{number}]" for number in range(1, 21)),
    "GuessTheNumber-v0-hardcore": tuple(f"[{number}]" for number in range(1, 51)),
    "Blackjack-v0": ("[Hit]", "[Stand]"),
    "Blackjack-v0-long": ("[Hit]", "[Stand]"),
    "Secretary-v0": ("[accept]", "[continue]"),
    "TowerOfHanoi-v0": tuple(f"[{a} {b}]" for a in "ABC" for b in "ABC" if a != b),
}
"""The commands of games that have only a few, by the game's id."""
_GAMES_WITH_MOVES = ("2048", "FifteenPuzzle", "FrozenLake", "Sokoban")
"""The beginnings of the ids of games whose commands are `_MOVES`."""
_INVALID_MOVES_ALLOWED = 10**9
"""How many invalid moves in a row a game accepts: in effect any number."""
_PLAIN_SIGNS = {
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u2026": "...",
    "\u2502": "|",
    "\u2588": "#",
    "\u2660": " of spades",
    "\u2663": " of clubs",
    "\u2665": " of hearts",
    "\u2666": " of diamonds",
    "\u221a": "V",
    "\u2190": "<-",
    "\u2192": "->",
    "\u2264": "<=",
    "\u2265": ">=",
    "\u00b7": ".",
    "\u00d7": "x",
}
_DASHES = "\u2010\u2011\u2013\u2014\u2015\u2500"
_CORNERS = "\u250c\u2510\u2514\u2518\u251c\u2524\u252c\u2534\u253c"
_TO_ASCII = str.maketrans(_PLAIN_SIGNS | dict.fromkeys(_DASHES, "-") | dict.fromkeys(_CORNERS, "+"))
"""Lines, quotes, arrows and card suits in ASCII. Any other sign becomes a question mark."""


class TextArenaGame(TextEnv):
    """One of TextArena's games for one player: puzzles, cards, guessing.

    The texts are the game's; each turn shows the new ones. The reward comes at the end and is the
    game's: 1 for a win, and often a part of it for coming close. TextArena ends a game at the
    second invalid move in a row; here an invalid move is answered and does not end the game, as in
    all environments of this package.

    Games draw from Python's global random generator. Each call replaces its state by the game's,
    and restores the caller's state afterwards.
    """

    def __init__(
        self,
        game: str = "GuessTheNumber-v0",
        commands: Sequence[str] | None = None,
        success_reward: float = 1.0,
        train: int = 200,
        valid: int = 50,
    ) -> None:
        """Make the game.

        Args:
            game: TextArena's id of the game.
            commands: the admissible commands to list at every turn. None lists those of the few
                games whose commands are known here, and nothing for others.
            success_reward: the smallest reward of a success.
            train: how many seeds to train on.
            valid: how many seeds to hold out.

        Raises:
            ValueError: textarena is not installed, the game is unknown or for several players, or
                something that it needs is missing, such as a list of words.
        """
        self._counts = check_counts(train, valid)
        self._name = game
        self._success_reward = read_as(float, "env.options: success_reward", success_reward)
        self._commands = list(commands if commands is not None else _known_commands(game))
        if not all(isinstance(command, str) and command for command in self._commands):
            raise ValueError(f"env.options: commands: {commands!r} is not a list of texts")
        # The game's state of the global generator; `_own_random_state` puts it in and takes it out.
        self._random_state = random.getstate()
        with self._own_random_state():
            self._game, self._brackets = _make(game)
            _start(game, self._game, seed=0)
        self._over = True

    def tasks(self, split: str) -> list[Task]:
        """List the seeds of `train` or `valid` as tasks of one family, the game."""
        return [
            seeded_task(ENV_ID, split, seed, family=self._name)
            for seed in task_seeds(self._counts, split)
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Start the episode of `options["task"]`; `seed` replaces the task's, if it is given."""
        gymnasium.Env.reset(self, seed=seed)
        task = task_in(options, ENV_ID)
        self._over = True
        with self._own_random_state():
            _start(self._name, self._game, seed=task.seed if seed is None else seed)
            text = self._new_text()
        self._over = False
        return text, self._info(success=False)

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Send one command. Square brackets are added if the game needs them and it has none.

        Raises:
            ResetNeeded: the episode is over or has not begun.
        """
        if self._over:
            raise reset_needed()
        needs_brackets = self._brackets and "[" not in action and "]" not in action
        with self._own_random_state():
            done, _ = self._game.step(f"[{action}]" if needs_brackets else action)
            self._over = bool(done)
            text = self._new_text()
            reward = self._reward() if self._over else 0.0
        success = self._over and reward >= self._success_reward
        return text, reward, self._over, False, self._info(success=success)

    def _reward(self) -> float:
        return float((self._game.state.rewards or {}).get(0, 0.0))

    def _new_text(self) -> str:
        """The game's messages since the last call, without the player's."""
        import textarena

        _, messages = self._game.get_observation()
        texts = [
            str(text)
            for _, text, kind in messages
            if kind is not textarena.ObservationType.PLAYER_ACTION
        ]
        if self._game.state.done:
            texts.append(self._game.state.game_info[0].get("reason") or "")
        lines = "\n".join(texts).translate(_TO_ASCII).strip()
        return "".join(sign if sign in TEXT_CHARSET else "?" for sign in lines)

    def _info(self, *, success: bool) -> dict[str, Any]:
        info: dict[str, Any] = {"success": success}
        if self._commands:
            info["admissible_commands"] = list(self._commands)
        return info

    @contextlib.contextmanager
    def _own_random_state(self) -> Iterator[None]:
        """Give the global generator the game's state for a while; silence what the game prints."""
        callers_state = random.getstate()
        random.setstate(self._random_state)
        silence = io.StringIO()
        try:
            with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
                yield
        finally:
            self._random_state = random.getstate()
            random.setstate(callers_state)


def _known_commands(game: str) -> Sequence[str]:
    return _MOVES if game.startswith(_GAMES_WITH_MOVES) else _COMMANDS.get(game, ())


def _make(game: str) -> tuple[Any, bool]:
    """Make the game without TextArena's wrappers.

    Returns:
        The game, and whether its wrappers put square brackets around an action without any.
    """
    try:
        import textarena
        from textarena.envs.registration import ENV_REGISTRY
    except ImportError as error:
        raise ValueError(
            "env.id: textarena needs the package textarena, an extra of this one: "
            "`pip install 'agent-rl[textarena]'` or `pip install textarena==0.7.4` "
            f"({error})"
        ) from error
    names = [name for name in ENV_REGISTRY if not name.endswith(("-raw", "-train"))]
    if game not in names:
        raise ValueError(f"env.options: game: {game!r} is not known{hint(str(game), names)}")
    wrappers = ENV_REGISTRY[game].default_wrappers or []
    # The wrappers also join all messages so far into one text; the raw game keeps them apart.
    bracketing = textarena.wrappers.ActionFormattingWrapper in wrappers
    raw = f"{game}-raw" if f"{game}-raw" in ENV_REGISTRY else game
    return _attempt(game, lambda: textarena.make(raw)), bracketing


def _start(name: str, game: Any, seed: int) -> None:
    import textarena

    _attempt(name, lambda: game.reset(num_players=1, seed=seed))
    if not isinstance(game.state, textarena.SinglePlayerState):
        raise ValueError(
            f"env.options: game: {name!r} is for several players; choose one for a single player"
        )
    # A reset makes a new state, so this has to be set again for each episode.
    game.state.error_allowance = _INVALID_MOVES_ALLOWED


def _attempt(game: str, act: Callable[[], Any]) -> Any:
    """Return `act()`; an error that a person can mend becomes a ValueError that says how."""
    try:
        return act()
    except LookupError as error:
        if "nltk" not in str(error):
            raise
        raise ValueError(
            f"env.options: game: {game!r} needs lists of words that nltk downloads; with a "
            "network, run `python -m nltk.downloader words averaged_perceptron_tagger_eng` and "
            "copy its folder nltk_data into the home directory; or choose a game "
            "without words"
        ) from error
    except (AssertionError, ValueError) as error:
        if "API key" in str(error):
            problem = "it asks a language model of OpenRouter over the network; choose another game"
        elif "player" in str(error).lower():
            problem = "it is for several players; choose one for a single player"
        else:
            raise
        raise ValueError(
            f"env.options: game: {game!r} cannot be played here: {problem} ({error})"
        ) from error
    except (ImportError, OSError, SyntaxError) as error:
        raise ValueError(
            f"env.options: game: {game!r} cannot be loaded from this textarena on this Python "
            f"({type(error).__name__}: {error}); choose another game"
        ) from error
