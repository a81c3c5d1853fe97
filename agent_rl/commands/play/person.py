"""A person at the terminal who plays an episode, and may take steps back."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace

from agent_rl.display import console, say, show_commands, show_observation, show_outcome
from envs import Task, TextEnv
from rollouts import EpisodeSettings, StopReason, Trajectory
from rollouts.actions import parse_action
from rollouts.episode import EpisodeOver, Recorder, act
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import unsampled_completion

UNDO, HISTORY, COMMANDS, QUIT = "undo", "history", "?", "quit"
HELP = f"Type a command or its number (Tab completes); or {UNDO}, {HISTORY}, {COMMANDS} (the commands again), {QUIT}."


def play_person(env: TextEnv, task: Task, settings: EpisodeSettings) -> Trajectory:
    """Let the person at the terminal play `task`, or whatever stands in the standard input, which
    ends it.
    """
    game = Game(env, task, settings)
    say(HELP)
    try:
        game.start()
        _show_state(game)
        while len(game.record.turns) < settings.max_turns:
            command = ask(game)
            if command == UNDO and not game.offers(UNDO):
                if game.undo():
                    _show_state(game)
                else:
                    say("    there is nothing to take back")
                continue
            over = game.do(command)
            if over is not None and over.reason is StopReason.ENV_ERROR:
                raise over
            turn = game.record.turns[-1]
            if turn.reward or not turn.admissible:
                show_outcome(turn.reward, admissible=turn.admissible)
            show_observation(game.record.observation)
            if over is not None:
                raise over
            show_commands(game.commands)
    except EpisodeOver as over:
        return game.record.end(over.reason, over.error)
    return game.record.end(StopReason.MAX_TURNS)


class Game:
    """A person's episode under way. Before each step its state is kept, so that the step can be
    taken back.
    """

    def __init__(self, env: TextEnv, task: Task, settings: EpisodeSettings) -> None:
        self._renderer = byte_renderer()
        self._settings = settings
        self._delta: tuple[int, ...] = ()
        self._past: list[tuple[Recorder | None, tuple[int, ...]]] = []
        self.record = Recorder(env, task, math.inf)

    @property
    def commands(self) -> list[str]:
        """The admissible ones; none where the environment lists none."""
        return list(self.record.admissible or ())

    def offers(self, word: str) -> bool:
        """Whether a word of ours is one of the environment's, which goes first."""
        return word in self.commands

    def start(self) -> None:
        self.record.reset()
        self._delta = self._renderer.first(self.record.observation, self.record.admissible)

    def do(self, text: str) -> EpisodeOver | None:
        """Send a command; how that ended the episode, if it did."""
        action = parse_action(text)
        completion = unsampled_completion(self._renderer.action_ids(text))
        self._past.append((self._copy(), self._delta))
        try:
            act(self.record, self._delta, completion, action, self._settings)
        except EpisodeOver as over:
            return over
        self._delta = self._renderer.following(
            self.record.observation, self.record.admissible, completion.finish_reason
        )
        return None

    def undo(self) -> bool:
        """Take the last step back; False where there is none. What cannot be copied is played again
        from its start.
        """
        if not self._past:
            return False
        kept, delta = self._past.pop()
        if kept is not None:
            self.record, self._delta = kept, delta
            return True
        said = [turn.action.text for turn in self.record.turns[:-1]]
        self.record = Recorder(self.record.env, self.record.task, math.inf)
        self._past = []
        self.start()
        for text in said:
            if over := self.do(text):
                raise over
        return True

    def _copy(self) -> Recorder | None:
        try:
            env = self.record.env.clone()
        except (
            NotImplementedError,
            TypeError,
        ):  # the latter is what deepcopy says of an open file or a lock
            return None
        return replace(self.record, env=env, turns=list(self.record.turns))


def ask(game: Game) -> str:
    """The next command, or `UNDO`; the rest of what a person may type is answered here.

    Raises:
        EpisodeOver: the person left.
    """
    while True:
        text = _read_line(
            f"{len(game.record.turns) + 1:>3} (return {_return(game):+.2f}) > ", game.commands
        )
        if text is None or (text == QUIT and not game.offers(QUIT)):
            raise EpisodeOver(StopReason.QUIT)
        if not text or (text == COMMANDS and not game.offers(COMMANDS)):
            show_commands(game.commands)
            say(HELP)
        elif text == HISTORY and not game.offers(HISTORY):
            for number, turn in enumerate(game.record.turns, start=1):
                say(f"{number:>3} > {turn.action.text}")
        elif text.isdecimal() and game.commands and not game.offers(text):
            if 1 <= int(text) <= len(game.commands):
                command = game.commands[int(text) - 1]
                say(f"    > {command}")
                return command
            say(f"    there are {len(game.commands)} commands")
        else:
            return text


def _return(game: Game) -> float:
    return sum(turn.reward for turn in game.record.turns)


def _show_state(game: Game) -> None:
    show_observation(game.record.observation)
    show_commands(game.commands)


def _read_line(prompt: str, commands: Sequence[str]) -> str | None:
    """One line without the white space around it; None at the end of the input, and at Ctrl-C."""
    person = sys.stdin.isatty()
    if person:
        _complete(commands)
    try:
        text = input(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    if not person:
        say(text)
    return text


def _complete(commands: Sequence[str]) -> None:
    """Let Tab complete whole lines; the arrow keys bring earlier ones back."""
    import readline

    def complete(text: str, number: int) -> str | None:
        found = [command for command in commands if command.startswith(text)]
        return found[number] if number < len(found) else None

    readline.set_completer(complete)
    readline.set_completer_delims("")
    readline.parse_and_bind("tab: complete")
