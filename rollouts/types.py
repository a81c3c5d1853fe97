"""The chain of types from one sampled action to a group of episodes. Frozen, and complete when
built.

A worked example of two turns (token ids invented; `|` ends a turn's part):

    prompt delta   [1 17 4]   completion [21 2]   |  prompt delta [9 4]   completion [22 23 2]
    token_ids      [1 17 4 21 2 9 4 22 23 2]
    action_mask    [0  0 0  1 1 0 0  1  1 1]       the end token (2) of an action is trained

`behavior_logprobs` has the same length and is 0 where the mask is 0. Nobody re-tokenises: what the
policy sampled is, by id, what the learner trains on.
"""

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from envs import Task


class StopReason(Enum):
    """Why an episode ended. It alone decides whether the episode trains (`trains`)."""

    SUCCESS = "success"
    """The environment said that the task is done."""
    FAILURE = "failure"
    """The environment ended the episode without success."""
    TRUNCATED = "truncated"
    """The environment cut the episode short."""
    MAX_TURNS = "max_turns"
    """The turn limit was reached."""
    CONTEXT_FULL = "context_full"
    """The next turn would not have fitted into the model's context."""
    TIMEOUT = "timeout"
    """The episode took longer than its time limit; what happened says nothing about the policy."""
    ENV_ERROR = "env_error"
    """The environment, or the process that held it, failed."""
    POLICY_ERROR = "policy_error"
    """The serving engine failed."""
    QUIT = "quit"
    """The person who played it left."""

    @property
    def trains(self) -> bool:
        """Whether the ending says something about the policy, so that the episode may train it."""
        return self not in (
            StopReason.TIMEOUT,
            StopReason.ENV_ERROR,
            StopReason.POLICY_ERROR,
            StopReason.QUIT,
        )


class FinishReason(Enum):
    """Why a completion ended."""

    STOP = "stop"
    """The policy sampled an end token, the last of the completion's ids."""
    LENGTH = "length"
    """The completion reached its token limit; its last id is an ordinary token."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What the policy returned for one prompt: ids, the log-probs they were sampled with, and by
    which weights.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    policy_version: int

    def __post_init__(self) -> None:
        assert self.token_ids, "a completion holds at least one token"
        assert len(self.token_ids) == len(self.logprobs), (len(self.token_ids), len(self.logprobs))


@dataclass(frozen=True, kw_only=True)
class ParsedAction:
    """An action's text read as a command. `command` is None where the text has not the action
    format.
    """

    text: str
    command: str | None


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One exchange: what the policy was shown, what it said, and what that was worth.

    `prompt_token_ids` is the delta: what was appended after the last completion, up to the
    generation prompt. `admissible` says whether the environment offered the command; an environment
    that lists none takes all. `reward` is the environment's, scaled, less the penalty for an
    invalid action.
    """

    observation: str
    prompt_token_ids: tuple[int, ...]
    completion: Completion
    action: ParsedAction
    admissible: bool
    reward: float


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One whole episode. The three token sequences are derived, of one length, and checked at
    construction.
    """

    task: Task
    turns: tuple[Turn, ...]
    stop_reason: StopReason
    success: bool
    final_observation: str = ""
    error: str = ""
    env_seconds: float = 0.0
    policy_seconds: float = 0.0

    def __post_init__(self) -> None:
        assert (
            self.turns or not self.stop_reason.trains or self.stop_reason is StopReason.CONTEXT_FULL
        )
        assert self.success == (self.stop_reason is StopReason.SUCCESS), (
            self.success,
            self.stop_reason,
        )
        assert len(self.token_ids) == len(self.action_mask) == len(self.behavior_logprobs)

    @cached_property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(
            i for turn in self.turns for i in (*turn.prompt_token_ids, *turn.completion.token_ids)
        )

    @cached_property
    def action_mask(self) -> tuple[bool, ...]:
        return tuple(
            bit
            for turn in self.turns
            for bit in (
                *(False for _ in turn.prompt_token_ids),
                *(True for _ in turn.completion.token_ids),
            )
        )

    @cached_property
    def behavior_logprobs(self) -> tuple[float, ...]:
        return tuple(
            x
            for turn in self.turns
            for x in (*(0.0 for _ in turn.prompt_token_ids), *turn.completion.logprobs)
        )

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of rewards."""
        return sum(turn.reward for turn in self.turns)

    @property
    def invalid_actions(self) -> int:
        """Turns whose action could not be parsed or was not admissible."""
        return sum(not turn.admissible for turn in self.turns)


@dataclass(frozen=True, kw_only=True)
class TrajectoryGroup:
    """The episodes of one `Task`, failures among them: never a missing row."""

    task: Task
    trajectories: tuple[Trajectory, ...]

    def __post_init__(self) -> None:
        assert self.trajectories, "a group holds at least one episode"
        assert all(t.task == self.task for t in self.trajectories), (
            "the members of a group share one task"
        )
