"""Episodes as chat messages, for training elsewhere, and back from files of such messages.

A line of a file of messages is one episode, which TRL's SFTTrainer and others read:

    {"messages": [{"role": "system", "content": "Answer with one command."},
                  {"role": "user", "content": "You see a desk 1."},
                  {"role": "assistant", "content": "go to desk 1", "weight": 1}],
     "id": "12/3/5", "family": "look", "success": true, ...}

The mask is `weight`: 0 marks an answer that is shown and not to be learned. All text of users and
of the system is masked anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from rollouts import FinishReason, Trajectory, Turn
from rollouts.actions import TAGS

_BEGIN, _END, _, _ = TAGS


@dataclass(frozen=True, kw_only=True)
class ChatTurn:
    """One exchange as text."""

    observation: str
    """The text of the environment."""
    answer: str
    """The text of the agent, with its thought."""
    trained: bool = True
    """Whether to learn the answer; else it is shown only."""


@dataclass(frozen=True, kw_only=True)
class ChatEpisode:
    """One episode as text."""

    turns: tuple[ChatTurn, ...]
    """The exchanges in order, at least one."""
    place: str = ""
    """The file and line that it comes from."""
    id: str = ""
    """Its name; empty if it has none."""
    task: str = ""
    """The task's id; empty if it is not known."""
    family: str = ""
    """The task's family; empty if it is not known."""
    success: bool = False
    """Whether the task was done, as far as is known."""


def chat_turns(trajectory: Trajectory) -> tuple[ChatTurn, ...]:
    """Return an episode's exchanges.

    A thought that was cut off is part of the action after it, whose text holds both. An answer is
    not to be learned if the environment refused it, or if the token limit cut it off.
    """
    turns = []
    for turn in trajectory.turns:
        if turn.kind != "thought":
            whole = turn.completion.finish_reason is not FinishReason.LENGTH
            turns.append(
                ChatTurn(
                    observation=turn.observation,
                    answer=answer_text(turn),
                    trained=turn.admissible and whole,
                )
            )
    return tuple(turns)


def answer_text(turn: Turn) -> str:
    """Return an answer with the begin of its thought, which a chat template may have written."""
    text = turn.action.text
    begun_by_template = _END in text and _BEGIN not in text.partition(_END)[0]
    return f"{_BEGIN}\n{text}" if begun_by_template else text


def messages_record(trajectory: Trajectory, *, episode_id: str, system: str) -> dict[str, Any]:
    """Return an episode as one line of a file of messages, in JSON's types.

    Args:
        trajectory: an episode with turns.
        episode_id: its name.
        system: the system message; empty leaves it out.
    """
    messages: list[dict[str, Any]] = []
    if system:
        messages.append({"role": "system", "content": system})
    for turn in chat_turns(trajectory):
        messages.append({"role": "user", "content": turn.observation})
        messages.append({"role": "assistant", "content": turn.answer, "weight": int(turn.trained)})
    task = trajectory.task
    return {
        "messages": messages,
        "id": episode_id,
        "env": task.env_id,
        "split": task.split,
        "family": task.family,
        "task": task.id,
        "success": trajectory.success,
        "return": trajectory.episode_return,
    }


def chat_episode(
    exchanges: Sequence[ChatTurn], *, id: str, task: str, family: str, success: bool
) -> ChatEpisode:
    """Return a chat that has something to learn.

    Raises:
        ValueError: no answer is to be learned.
    """
    if not any(turn.trained for turn in exchanges):
        raise ValueError("no answer in it is to be learned (each has weight 0, or there is none)")
    return ChatEpisode(turns=tuple(exchanges), id=id, task=task, family=family, success=success)


class _Message(BaseModel):
    """A message of the chat format; other keys are passed over."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str
    weight: float | None = None


class _Line(BaseModel):
    """A line of a file of messages; other keys are passed over."""

    messages: list[_Message]
    # Other programs may write anything under these names.
    id: Any = ""
    task: Any = ""
    family: Any = ""
    success: Any = False


def chat_from_messages(record: Any) -> ChatEpisode:
    """Return a line of a file of messages as chat. Answers without a `weight` are learned.

    Raises:
        ValueError: a field has another form, or no answer is to be learned.
    """
    line = _Line.model_validate(record)
    said: list[str] = []
    turns: list[ChatTurn] = []
    for message in line.messages:
        if message.role == "user":
            said.append(message.content)
        elif message.role == "assistant":
            if not said:
                raise ValueError("an assistant's message without a user's before it")
            turns.append(
                ChatTurn(
                    observation="\n\n".join(said),
                    answer=message.content,
                    trained=message.weight != 0,
                )
            )
            said = []
    return chat_episode(
        turns,
        id=str(line.id),
        task=str(line.task),
        family=str(line.family),
        success=line.success is True,
    )
