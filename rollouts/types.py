"""The types from one sampled action to a group of episodes. All are frozen and complete when built.

A worked example of two turns (token ids invented; `|` ends a turn):

    prompt delta   [1 17 4]   completion [21 2]   |  prompt delta [9 4]   completion [22 23 2]
    token_ids      [1 17 4 21 2 9 4 22 23 2]
    action_mask    [0  0 0  1 1 0 0  1  1 1]       the end token (2) of an action is trained

`behavior_logprobs` has the same length and is 0 where the mask is 0. Nothing is tokenised twice:
the learner trains on the very ids that the policy sampled.

With a history that forgets (`prompt.history`), a turn may have a whole new prompt. There the
episode is cut into parts, and each is a sequence of its own.

Not every turn is an action. One whose thought was cut off (`episode.max_thought_tokens`) is two
turns: the thought, and the action, whose prompt delta is the end that was written for the policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import pairwise
from typing import Literal, Protocol

from envs import Task
from rollouts.rendering.notebook import html_table


class StopReason(Enum):
    """Why an episode ended. It decides whether an episode with turns trains (`trains`)."""

    SUCCESS = "success"
    """The environment reported that the task is done."""
    FAILURE = "failure"
    """The environment ended the episode without success."""
    TRUNCATED = "truncated"
    """The environment cut the episode short."""
    MAX_TURNS = "max_turns"
    """The episode reached `episode.max_turns`."""
    CONTEXT_FULL = "context_full"
    """The next turn would not have fitted into the model's context."""
    TIMEOUT = "timeout"
    """The episode took more time of its own than `episode.timeout_seconds`. It counts as it stands,
    like one that reached `max_turns`: left out, it would take the long episodes, most of which
    fail, from the group's mean, and more of them on a slow machine."""
    ENV_ERROR = "env_error"
    """The environment failed, or the process that held it."""
    POLICY_ERROR = "policy_error"
    """The serving engine failed."""
    QUIT = "quit"
    """The person who played it left."""

    @property
    def trains(self) -> bool:
        """Whether the ending says something about the policy (see `Trajectory.trains`)."""
        return self not in (
            StopReason.ENV_ERROR,
            StopReason.POLICY_ERROR,
            StopReason.QUIT,
        )


class FinishReason(Enum):
    """Why a completion ended."""

    STOP = "stop"
    """The policy sampled an end token, which is the last of the completion's ids."""
    STOP_TEXT = "stop_text"
    """The policy wrote one of `prompt.stop`; the last id completed it, and no end token follows."""
    LENGTH = "length"
    """The completion reached its token limit; its last id is an ordinary token."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """The policy's answer to one prompt."""

    token_ids: tuple[int, ...]
    """The sampled ids, at least one; an end token is kept."""
    logprobs: tuple[float, ...]
    """The log-prob of each id in nats, under the distribution that it was sampled from."""
    finish_reason: FinishReason
    """Whether the policy ended the completion or the token limit did."""
    versions: tuple[tuple[int, int], ...]
    """The weights that sampled the ids, as runs in order: a version, and the index of the first id
    that it sampled. One run, `((7, 0),)`, unless new weights came in while it was sampled."""
    seconds: float = field(default=0.0, compare=False)
    """Wall time in which the policy worked on it; its wait in the engine's queue is left out. It is
    not in the file of an episode."""

    def __post_init__(self) -> None:
        assert self.token_ids, "a completion holds at least one token"
        assert len(self.token_ids) == len(self.logprobs), (len(self.token_ids), len(self.logprobs))
        starts = [start for _, start in self.versions]
        assert starts[:1] == [0], f"the first run of versions starts at 0: {self.versions}"
        assert all(a < b for a, b in pairwise(starts)), self.versions
        assert starts[-1] < len(self.token_ids), (self.versions, len(self.token_ids))

    @property
    def policy_version(self) -> int:
        """The oldest version that sampled an id of it."""
        return min(version for version, _ in self.versions)

    def cut(self, length: int, reason: FinishReason) -> "Completion":
        """Return the first `length` ids, as a completion that ended there for `reason`."""
        return replace(
            self,
            token_ids=self.token_ids[:length],
            logprobs=self.logprobs[:length],
            versions=tuple(run for run in self.versions if run[1] < length),
            finish_reason=reason,
        )

    def with_rest(self, rest: "Completion") -> "Completion":
        """Return it and what was sampled right after it, as one completion."""
        length, versions = len(self.token_ids), self.versions
        for version, start in rest.versions:
            if version != versions[-1][0]:
                versions += ((version, length + start),)
        return Completion(
            token_ids=self.token_ids + rest.token_ids,
            logprobs=self.logprobs + rest.logprobs,
            finish_reason=rest.finish_reason,
            versions=versions,
            seconds=self.seconds + rest.seconds,
        )


class Policy(Protocol):
    """Samples an action for a prompt."""

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """Sample up to `max_tokens` ids after `token_ids`, up to and with the first stop id.

        At `temperature` 0 the policy is greedy. The log-probs are those of the distribution that
        was sampled from.

        Args:
            stop: texts after which nothing more is of use. A policy may sample on.
        """


@dataclass(frozen=True, kw_only=True)
class ParsedAction:
    """The text of an action, read as a command."""

    text: str
    """The decoded answer without its end token: with a thought that was cut off, and its end."""
    command: str | None
    """The command to execute; None if the text does not have the action format."""

    @property
    def said(self) -> str:
        """What goes to the environment: the command, else the whole text."""
        return self.text if self.command is None else self.command


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One exchange: the prompt, the policy's action and its reward."""

    observation: str
    """The text that the environment showed before the action."""
    prompt_token_ids: tuple[int, ...]
    """The prompt's delta: the ids appended after the last completion, up to this action. With
    `new_prompt`, all ids of the prompt."""
    completion: Completion
    """The ids of the action, and their log-probs."""
    action: ParsedAction
    """The command in the completion."""
    admissible: bool
    """Whether the environment offered the command; one that lists no commands accepts all."""
    reward: float
    """The environment's reward, scaled, less the penalty if the action was invalid."""
    new_prompt: bool = False
    """Whether the policy saw a whole new prompt, and nothing of the ids before. The first turn
    needs no such mark."""
    kind: Literal["action", "thought", "summary"] = "action"
    """What the policy wrote. The environment sees actions only. A thought is a turn of its own if
    it was cut off, and the next turn is its action. A summary is one of `prompt.history`."""
    advice: str | None = None
    """What the environment's expert would have done here, in an episode of the policy. None if the
    environment was made without its expert, or the expert knew no command."""
    mistakes: tuple[tuple[int, int], ...] = ()
    """In an expert's episode, where `prompt_token_ids` hold wrong commands that were mixed in: the
    first index of each, and the one after its last."""

    def has_refused(self, action: ParsedAction) -> bool:
        """Whether this turn's action was invalid and said the same as `action`."""
        return not self.admissible and self.action.said == action.said


@dataclass(frozen=True, kw_only=True)
class Part:
    """Turns with one prompt that only grew. Its three token sequences have one length.

    They are derived anew at each call: kept, they would more than double an episode's size, in
    memory and on its way from a worker.
    """

    turns: tuple[Turn, ...]
    """The turns in order; at most the first one has a new prompt."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All ids: prompt deltas and completions in turn."""
        ids: list[int] = []
        for turn in self.turns:
            ids += turn.prompt_token_ids
            ids += turn.completion.token_ids
        return tuple(ids)

    @property
    def action_mask(self) -> tuple[bool, ...]:
        """True for the ids that the policy wrote."""
        mask: list[bool] = []
        for turn in self.turns:
            mask += [False] * len(turn.prompt_token_ids)
            mask += [True] * len(turn.completion.token_ids)
        return tuple(mask)

    @property
    def behavior_logprobs(self) -> tuple[float, ...]:
        """The log-probs of sampling in nats; 0 for the ids of prompts."""
        logprobs: list[float] = []
        for turn in self.turns:
            logprobs += [0.0] * len(turn.prompt_token_ids)
            logprobs += turn.completion.logprobs
        return tuple(logprobs)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One whole episode. Its token sequences are those of its parts, one after the other.

    In the example at the top of this file, `token_ids` has 10 ids and `action_mask` 5 True.
    """

    task: Task
    """The task that was played."""
    turns: tuple[Turn, ...]
    """The turns in order; none if the episode failed before the first action."""
    stop_reason: StopReason
    """Why the episode ended."""
    success: bool
    """Whether the task was done: exactly if `stop_reason` is SUCCESS."""
    final_observation: str = ""
    """The text shown after the last action, which no turn holds."""
    error: str = ""
    """The message of the failure for ENV_ERROR, POLICY_ERROR and a first prompt that does not fit
    (CONTEXT_FULL without a turn), else empty."""
    env_seconds: float = 0.0
    """Wall time spent in the environment's calls."""
    policy_seconds: float = 0.0
    """Wall time spent waiting for the policy."""

    def __post_init__(self) -> None:
        # An episode that the policy played has turns. The exceptions: its context was full, or (in
        # files of earlier versions) its time was up, before the first action.
        assert (
            self.turns
            or not self.stop_reason.trains
            or self.stop_reason in (StopReason.CONTEXT_FULL, StopReason.TIMEOUT)
        )
        assert self.success == (self.stop_reason is StopReason.SUCCESS), (
            self.success,
            self.stop_reason,
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The episode, cut before each turn with a new prompt. Usually it is one part."""
        cuts = [i for i, turn in enumerate(self.turns) if i == 0 or turn.new_prompt]
        ends = [*cuts[1:], len(self.turns)]
        return tuple(
            Part(turns=self.turns[begin:end]) for begin, end in zip(cuts, ends, strict=False)
        )

    @property
    def actions(self) -> tuple[Turn, ...]:
        """The turns that the environment saw."""
        return tuple(turn for turn in self.turns if turn.kind == "action")

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All ids that the policy read or wrote; those of each part anew."""
        return Part(turns=self.turns).token_ids

    @property
    def action_mask(self) -> tuple[bool, ...]:
        """True for the ids that the policy wrote."""
        return Part(turns=self.turns).action_mask

    @property
    def behavior_logprobs(self) -> tuple[float, ...]:
        """The log-probs of sampling in nats; 0 for the ids of prompts."""
        return Part(turns=self.turns).behavior_logprobs

    @property
    def trains(self) -> bool:
        """Whether the episode says something about the policy: it may train it, and is scored."""
        return self.stop_reason.trains and bool(self.turns)

    @property
    def unplayable(self) -> bool:
        """Whether the environment failed in it, or its first prompt did not fit (see `error`)."""
        return self.stop_reason is StopReason.ENV_ERROR or (
            self.stop_reason is StopReason.CONTEXT_FULL and not self.turns
        )

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def invalid_actions(self) -> int:
        """The number of turns whose action could not be parsed or was not admissible."""
        return sum(not turn.admissible for turn in self.turns)

    @property
    def repeated_refusals(self) -> int:
        """The number of invalid actions that say the same as the invalid one right before them."""
        pairs = pairwise(self.actions)
        return sum(
            not after.admissible and before.has_refused(after.action) for before, after in pairs
        )

    def _repr_html_(self) -> str:
        """The episode turn by turn, for a notebook."""
        number, rows = 0, []
        for turn in self.turns:
            number += turn.kind == "action"
            command = turn.action.said
            mark = "" if turn.admissible else "\n(not admissible)"
            reward = f"{turn.reward:+.2f}" if turn.reward else ""
            of_action = turn.kind == "action"
            rows.append(
                (str(number) if of_action else turn.kind, turn.observation, command + mark, reward)
            )
        if self.final_observation:
            rows.append(("", self.final_observation, "", ""))
        caption = (
            f"{self.task.id}: {self.stop_reason.value}, {len(self.actions)} turns, "
            f"return {self.episode_return:+.2f}"
        )
        head = ("turn", "observation", "action", "reward")
        notes = [self.error] if self.error else []
        return html_table(caption, head, rows, texts=(0, 1, 2), notes=notes)

    @property
    def truncated_actions(self) -> int:
        """The number of actions that their token limit cut off."""
        cut = FinishReason.LENGTH
        return sum(turn.completion.finish_reason is cut for turn in self.actions)

    @property
    def cut_thoughts(self) -> int:
        """The number of thoughts that were cut off, and whose end was written for the policy."""
        return sum(turn.kind == "thought" for turn in self.turns)


@dataclass(frozen=True, kw_only=True)
class TrajectoryGroup:
    """The episodes of one task, which the advantage compares. Failed episodes stay in it."""

    task: Task
    """The task that all episodes played."""
    trajectories: tuple[Trajectory, ...]
    """At least one episode, in the order of their seeds."""

    def __post_init__(self) -> None:
        assert self.trajectories, "a group holds at least one episode"
        assert all(t.task == self.task for t in self.trajectories), (
            "the members of a group share one task"
        )
