"""An episode that a person plays at the terminal; steps can be taken back."""

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
from rollouts.rendering.conversation import Prompt
from rollouts.scripted_episode import unsampled_completion

UNDO, HISTORY, COMMANDS, QUIT = "undo", "history", "?", "quit"
HELP = (
    f"Type a command or its number (Tab completes); or {UNDO}, {HISTORY}, {COMMANDS} (the commands "
    f"again), {QUIT}."
)


def play_person(env: TextEnv, task: Task, settings: EpisodeSettings) -> Trajectory:
    """Let a person at the terminal play `task`. The standard input may also be a file or a pipe."""
    episode = PersonEpisode(env, task, settings)
    say(HELP)
    try:
        episode.start()
        _show_state(episode)
        while len(episode.record.turns) < settings.max_turns:
            command = ask(episode)
            if command == UNDO and not episode.offers(UNDO):
                if episode.undo():
                    _show_state(episode)
                else:
                    say("    there is nothing to take back")
            else:
                _play_turn(episode, command)
    except EpisodeOver as over:
        return episode.record.end(over.reason, over.error)
    return episode.record.end(StopReason.MAX_TURNS)


class PersonEpisode:
    """A person's episode under way.

    The state before each step is kept, for taking the step back.
    """

    def __init__(self, env: TextEnv, task: Task, settings: EpisodeSettings) -> None:
        """Prepare an episode of `task`; `start` begins it."""
        self._renderer = byte_renderer()
        self._settings = settings
        # The prompt's ids since the last action.
        self._delta: tuple[int, ...] = ()
        # Before each step: the record, or None if the environment cannot be copied, and the ids.
        self._past: list[tuple[Recorder | None, tuple[int, ...]]] = []
        self.record = Recorder(env, task, math.inf)

    @property
    def commands(self) -> list[str]:
        """The admissible commands; none if the environment lists none."""
        return list(self.record.admissible or ())

    def offers(self, word: str) -> bool:
        """Whether the environment has this command; it then precedes a built-in word."""
        return word in self.commands

    def start(self) -> None:
        """Reset the environment.

        Raises:
            EpisodeOver: the environment failed.
        """
        self.record.reset()
        self._delta = self._renderer.first(self.record.observation, self.record.admissible)

    def do(self, text: str) -> EpisodeOver | None:
        """Send a command; returns the end of the episode if it ended."""
        action = parse_action(text)
        completion = unsampled_completion(self._renderer.action_ids(text))
        self._past.append((self._copy(), self._delta))
        try:
            act(self.record, Prompt(token_ids=self._delta), completion, action, self._settings)
        except EpisodeOver as over:
            return over
        self._delta = self._renderer.following(
            self.record.observation, self.record.admissible, completion.finish_reason
        )
        return None

    def undo(self) -> bool:
        """Take the last step back; returns False if there is none.

        If the environment cannot be copied, the earlier commands are played again from the start.
        """
        if not self._past:
            return False
        record, delta = self._past.pop()
        if record is not None:
            self.record, self._delta = record, delta
            return True
        earlier = [turn.action.text for turn in self.record.turns[:-1]]
        self.record = Recorder(self.record.env, self.record.task, math.inf)
        self._past = []
        self.start()
        for text in earlier:
            over = self.do(text)
            if over is not None:
                raise over
        return True

    def _copy(self) -> Recorder | None:
        try:
            env = self.record.env.clone()
        # TypeError is raised by deepcopy, of an open file or a lock.
        except (NotImplementedError, TypeError):
            return None
        return replace(self.record, env=env, turns=list(self.record.turns))


def ask(episode: PersonEpisode) -> str:
    """Ask for the next command; returns it, or `UNDO`. Other built-in words are answered here.

    Raises:
        EpisodeOver: the person left.
    """
    while True:
        turn = len(episode.record.turns) + 1
        episode_return = sum(past.reward for past in episode.record.turns)
        prompt = f"{turn:>3} (return {episode_return:+.2f}) > "
        text = _read_line(prompt, episode.commands)
        if text is None or (text == QUIT and not episode.offers(QUIT)):
            raise EpisodeOver(StopReason.QUIT)
        if not text or (text == COMMANDS and not episode.offers(COMMANDS)):
            show_commands(episode.commands)
            say(HELP)
        elif text == HISTORY and not episode.offers(HISTORY):
            for number, past in enumerate(episode.record.turns, start=1):
                say(f"{number:>3} > {past.action.text}")
        elif text.isdecimal() and episode.commands and not episode.offers(text):
            if 1 <= int(text) <= len(episode.commands):
                command = episode.commands[int(text) - 1]
                say(f"    > {command}")
                return command
            say(f"    there are {len(episode.commands)} commands")
        else:
            return text


def _play_turn(episode: PersonEpisode, command: str) -> None:
    """Send a command and show the result.

    Raises:
        EpisodeOver: the episode ended.
    """
    over = episode.do(command)
    if over is not None and over.reason is StopReason.ENV_ERROR:
        # No turn was recorded, so there is nothing to show.
        raise over
    turn = episode.record.turns[-1]
    if turn.reward or not turn.admissible:
        show_outcome(turn.reward, admissible=turn.admissible)
    show_observation(episode.record.observation)
    if over is not None:
        raise over
    show_commands(episode.commands)


def _show_state(episode: PersonEpisode) -> None:
    show_observation(episode.record.observation)
    show_commands(episode.commands)


def _read_line(prompt: str, commands: Sequence[str]) -> str | None:
    """One line without the white space around it; None at the end of the input and at Ctrl-C."""
    at_terminal = sys.stdin.isatty()
    if at_terminal:
        _complete(commands)
    try:
        text = input(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return None
    if not at_terminal:
        # A terminal shows the line while it is typed.
        say(text)
    return text


def _complete(commands: Sequence[str]) -> None:
    """Let Tab complete whole lines; the arrow keys bring earlier lines back."""
    import readline

    def complete(text: str, number: int) -> str | None:
        matching = [command for command in commands if command.startswith(text)]
        return matching[number] if number < len(matching) else None

    readline.set_completer(complete)
    readline.set_completer_delims("")
    readline.parse_and_bind("tab: complete")
