"""Episodes of players that need no model: baselines, and the expert episodes of SFT."""

import asyncio
from dataclasses import replace
from typing import Any

from envs import Task, TextEnv
from rollouts.episode import FULL, EpisodeOver, Recorder, act, check_first_prompt
from rollouts.mistakes import Mistakes
from rollouts.players import Player
from rollouts.renderer import Renderer, transcript
from rollouts.rendering.conversation import Conversation, Prompt
from rollouts.rendering.histories import History, HistoryFailed
from rollouts.serving.sampling import most_answer_tokens
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory

NO_POLICY = -1
"""The `policy_version` of a completion that no policy sampled."""


async def run_scripted_episode(
    env: TextEnv,
    task: Task,
    player: Player,
    renderer: Renderer,
    settings: EpisodeSettings,
    *,
    mistakes: Mistakes | None = None,
    context_length: int | None = None,
    history: History = FULL,
) -> Trajectory:
    """Play `task` with the commands of `player`, mixed with `mistakes` if there are any.

    A mistake is executed instead of the player's command. It becomes part of the *prompt* of the
    next turn: its tokens have action mask 0, and its text stands in that turn's `observation`.
    So the learner sees how to recover and never imitates a mistake, and its reward is left out:

        You see a desk 1.          prompt
        > take book 1              prompt: a mistake
        Nothing happens.           prompt
        > go to desk 1             completion: the player's command

    The episode is a success only if the player's own command won it. If a mistake wins, or the
    player has no command, it ends as `TRUNCATED`. An episode that would end without any command of
    the player is an `ENV_ERROR`. All log-probs are 0, because nothing was sampled.

    Args:
        mistakes: the wrong commands; None plays none.
        context_length: in tokens. None: no model will read the tokens, so no token limit applies.
        history: chooses what each prompt shows of the turns before. No summary is asked for.

    Raises:
        ValueError: an action of the player is longer than `episode.max_action_tokens`.
    """
    episode = _ScriptedEpisode(
        Recorder(env, task, settings.timeout_seconds),
        renderer,
        Conversation(renderer, history),
        settings,
        context_length,
    )
    mistakes = mistakes or Mistakes(0.0, seed=0)
    try:
        episode.begin()
        for _ in range(settings.max_turns):
            command = _choice(player, episode)
            if command is None:
                raise EpisodeOver(StopReason.TRUNCATED)
            mistake = mistakes.next(command, episode.admissible)
            if mistake is None:
                episode.act(command)
            else:
                episode.make_mistake(mistake)
            # The other episodes of this worker get the thread.
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return episode.end(over.reason, over.error)
    return episode.end(StopReason.MAX_TURNS)


def _choice(player: Player, episode: "_ScriptedEpisode") -> str | None:
    """Return the player's next command; None if it knows none."""
    try:
        return player.choose(episode.observation, episode.info)
    except ValueError as error:
        # One task of many may lack its expert. If all do, the run stops with this sentence.
        raise EpisodeOver(StopReason.ENV_ERROR, str(error)) from error


class _ScriptedEpisode:
    """An episode under way, with the prompt that its next turn will have."""

    def __init__(
        self,
        record: Recorder,
        renderer: Renderer,
        conversation: Conversation,
        settings: EpisodeSettings,
        context_length: int | None,
    ) -> None:
        self._record, self._renderer, self._settings = record, renderer, settings
        self._conversation = conversation
        self._context_length = context_length
        self._most = most_answer_tokens(settings, renderer)
        self._prompt = Prompt(token_ids=())
        """What the player's next action answers: observations, mistakes, or all that is shown."""
        self._mistakes: tuple[tuple[int, int], ...] = ()
        """Where that prompt holds mistakes, as in `Turn`."""
        self._length = 0
        """All ids that the next action comes after."""
        self._latest = ""
        """The latest observation."""
        self.info: dict[str, Any] = {}
        """The environment's latest info."""

    @property
    def observation(self) -> str:
        """The text since the player's last action: mistakes, and the latest observation."""
        return self._record.observation

    @property
    def admissible(self) -> list[str] | None:
        """The commands that the environment accepts now; None if it lists none."""
        return self._record.admissible

    def begin(self) -> None:
        """Reset the environment and render the first prompt."""
        self.info = self._record.reset()
        self._observe()
        if self._context_length is not None:
            check_first_prompt(
                self._record.task, self._length, self._settings, self._context_length, self._most
            )

    def act(self, command: str) -> None:
        """Execute a command of the player, which ends the turn."""
        ids = self._fitting_ids(command)
        action = ParsedAction(text=command, command=command)
        completion = unsampled_completion(ids)
        self._conversation.add(self._latest, completion, action)
        self.info = act(
            self._record,
            self._prompt,
            completion,
            action,
            self._settings,
            mistakes=self._mistakes,
        )
        self._prompt, self._mistakes = Prompt(token_ids=()), ()
        self._length += len(ids)
        self._observe()

    def make_mistake(self, command: str) -> None:
        """Execute a wrong command, and show it with its consequence in the next turn's prompt."""
        ids = self._fitting_ids(command)
        # Before the step, which replaces the observation.
        shown = transcript(self.observation, command)
        action = ParsedAction(text=command, command=command)
        self._conversation.add(self._latest, unsampled_completion(ids), action)
        _, ending, self.info = self._record.step(command)
        # The winning command would be in no turn, so the episode must not count as a success.
        if ending is StopReason.SUCCESS:
            raise EpisodeOver(StopReason.TRUNCATED)
        if ending is not None:
            raise EpisodeOver(ending)
        before = len(self._prompt.token_ids)
        self._mistakes += ((before, before + len(ids)),)
        self._prompt = replace(self._prompt, token_ids=(*self._prompt.token_ids, *ids))
        self._length += len(ids)
        self._observe()
        self._record.observation = shown + self._record.observation

    def end(self, reason: StopReason, error: str = "") -> Trajectory:
        """Return the trajectory; one without turns says nothing about the policy."""
        if reason.trains and not self._record.turns and not error:
            error = f"the episode ended ({reason.value}) before the player acted"
            return self._record.end(StopReason.ENV_ERROR, error)
        return self._record.end(reason, error)

    def _fitting_ids(self, command: str) -> tuple[int, ...]:
        """Return the ids of an action, if action and context have room for it."""
        ids = self._renderer.action_ids(command)
        if self._context_length is None:
            return ids
        limit = self._settings.max_action_tokens
        if len(ids) > limit:
            raise ValueError(
                f"task {self._record.task.id!r}: the action {command!r} takes {len(ids)} tokens "
                f"with its end token, but episode.max_action_tokens is {limit}; raise it"
            )
        # The limit of the policy's episodes: a full-length answer must fit, however short this is.
        if self._length + self._most > self._context_length:
            raise EpisodeOver(StopReason.CONTEXT_FULL)
        return ids

    def _observe(self) -> None:
        """Let the prompt of the next action show the latest observation."""
        self._latest = self._record.observation
        try:
            prompt = self._conversation.prompt(self._latest, self.admissible)
        except HistoryFailed as error:
            raise EpisodeOver(StopReason.ENV_ERROR, str(error)) from error
        if prompt.is_new:
            self._prompt, self._length = prompt, len(prompt.token_ids)
            self._mistakes = ()  # A new prompt retells them.
        else:
            ids = (*self._prompt.token_ids, *prompt.token_ids)
            self._prompt = replace(self._prompt, token_ids=ids)
            self._length += len(prompt.token_ids)


def unsampled_completion(ids: tuple[int, ...]) -> Completion:
    """Return an action, its end token included, that no policy sampled."""
    return Completion(
        token_ids=ids,
        logprobs=(0.0,) * len(ids),
        finish_reason=FinishReason.STOP,
        versions=((NO_POLICY, 0),),
    )
