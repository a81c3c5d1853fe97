"""Episodes that somebody wrote down as text, in the tokens of a policy."""

from collections.abc import Sequence
from dataclasses import dataclass

from envs import Task
from rollouts.renderer import Renderer, transcript
from rollouts.rendering.conversation import Conversation
from rollouts.rendering.histories import History
from rollouts.scripted_episode import unsampled_completion
from rollouts.types import StopReason, Trajectory, Turn


@dataclass(frozen=True, kw_only=True)
class WrittenTurn:
    """An observation and the answer to it."""

    observation: str
    """The text of the environment."""
    answer: str
    """The text of the agent, with its thought if it has one."""
    trained: bool
    """Whether to learn the answer. Else it becomes part of the next prompt, as a mistake of an
    expert does."""


def written_episode(
    turns: Sequence[WrittenTurn],
    task: Task,
    renderer: Renderer,
    history: History,
    *,
    success: bool,
    max_tokens: int,
    context_length: int,
) -> Trajectory:
    """Return a written episode as the policy would read and write it. Its rewards are 0.

    It ends as `CONTEXT_FULL` before the first turn that the context has no room for. What comes
    after the last answer to learn is left out.

    Args:
        turns: the exchanges in order.
        task: the task that the trajectory names.
        renderer: of the policy.
        history: chooses what each prompt shows of the turns before. No summary is asked for.
        success: whether the task was done.
        max_tokens: that an answer may take, its end token included.
        context_length: in tokens.

    Raises:
        ValueError: an answer is longer than `max_tokens`, or the first turn does not fit.
    """
    written = _Written(Conversation(renderer, history), renderer, max_tokens, context_length)
    fits = all(written.add(turn, number) for number, turn in enumerate(turns, start=1))
    if not written.turns:
        raise ValueError(
            f"no answer to learn fits into the context of {context_length} tokens; raise "
            "serving.context_length, or take a model with a longer one"
        )
    ended = StopReason.SUCCESS if success else StopReason.TRUNCATED
    reason = ended if fits else StopReason.CONTEXT_FULL
    return Trajectory(
        task=task,
        turns=tuple(written.turns),
        stop_reason=reason,
        success=reason is StopReason.SUCCESS,
    )


class _Written:
    """An episode that is being written, with the prompt that its next answer will have."""

    def __init__(
        self, conversation: Conversation, renderer: Renderer, max_tokens: int, context_length: int
    ) -> None:
        self._conversation, self._renderer = conversation, renderer
        self._max_tokens, self._context_length = max_tokens, context_length
        self.turns: list[Turn] = []
        """The turns to learn."""
        self._shown = ""
        self._ids: tuple[int, ...] = ()
        """What the next answer to learn answers: its text and its ids."""
        self._is_new = False
        """Whether these are a whole new prompt."""
        self._length = 0
        """All ids until now that the policy would see."""

    def add(self, turn: WrittenTurn, number: int) -> bool:
        """Add a turn; False if the context has no room for it."""
        prompt = self._conversation.prompt(turn.observation, None)
        answer = self._renderer.answer_ids(turn.answer)
        if len(answer) > self._max_tokens:
            raise ValueError(
                f"answer {number} takes {len(answer)} tokens with its end token, but "
                f"episode.max_action_tokens allows {self._max_tokens}; raise it"
            )
        if prompt.is_new:
            self._begin(is_new=True)
            self._length = 0
        self._length += len(prompt.token_ids) + len(answer)
        if self._length > self._context_length:
            return False
        self._ids += prompt.token_ids
        self._shown += turn.observation
        completion = unsampled_completion(answer)
        action = self._renderer.parse(completion)
        self._conversation.add(turn.observation, completion, action)
        if not turn.trained:
            self._ids += answer
            self._shown = transcript(self._shown, turn.answer)
            return True
        self.turns.append(
            Turn(
                observation=self._shown,
                prompt_token_ids=self._ids,
                completion=completion,
                action=action,
                admissible=True,
                reward=0.0,
                new_prompt=self._is_new and bool(self.turns),
            )
        )
        self._begin(is_new=False)
        return True

    def _begin(self, *, is_new: bool) -> None:
        self._shown, self._ids, self._is_new = "", (), is_new
