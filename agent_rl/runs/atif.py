"""Episodes in ATIF, the Agent Trajectory Interchange Format of harbor's RFC 0001, version 1.7.

One object is one episode. Its steps are the system message, the first observation as the user's
message, and then one step of the agent for each of its answers, with the environment's reply:

    {"schema_version": "ATIF-v1.7", "trajectory_id": "12/3/5", "agent": {"name": "agent_rl", ...},
     "steps": [{"step_id": 1, "source": "user", "message": "You see a desk 1."},
               {"step_id": 2, "source": "agent", "message": "go to desk 1",
                "observation": {"results": [{"content": "On the desk 1, you see a mug 3."}]},
                "metrics": {"completion_token_ids": [21, 2], "logprobs": [-0.1, -0.2], ...}, ...}]}

A thought is `reasoning_content`. An answer that no model sampled, as an expert's, has no metrics
and a `llm_call_count` of 0, as the format asks for.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

from pydantic import BaseModel

from agent_rl.runs.chats import ChatEpisode, ChatTurn, answer_text, chat_episode
from rollouts import FinishReason, PromptSettings, Trajectory, Turn
from rollouts.actions import TAGS

SCHEMA = "ATIF-v1.7"
_THOUGHT = re.compile(rf"\s*{TAGS[0]}(?P<thought>.*?){TAGS[1]}(?P<rest>.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class AtifSource:
    """What the records of one run share."""

    run: str
    """The run's name."""
    model: str
    """The policy's name."""
    prompt: PromptSettings
    """The prompt's format."""


def atif_record(trajectory: Trajectory, *, episode_id: str, source: AtifSource) -> dict[str, Any]:
    """Return an episode as an ATIF object, in JSON's types.

    Args:
        trajectory: an episode with turns.
        episode_id: its name.
        source: of the run.
    """
    steps: list[dict[str, Any]] = []
    for number, step in enumerate(_steps(trajectory, source.prompt.system), start=1):
        steps.append({"step_id": number, **step})
    task = trajectory.task
    record: dict[str, Any] = {
        "schema_version": SCHEMA,
        "session_id": f"{source.run}/{episode_id}",
        "trajectory_id": episode_id,
        "agent": {
            "name": "agent_rl",
            "version": metadata.version("agent-rl"),
            "model_name": source.model,
            "extra": {"prompt": source.prompt.model_dump(mode="json", exclude_defaults=True)},
        },
        "steps": steps,
        "final_metrics": {
            "total_prompt_tokens": sum(_prompt_lengths(trajectory.turns)),
            "total_completion_tokens": sum(
                len(turn.completion.token_ids) for turn in trajectory.turns
            ),
            "total_steps": len(steps),
        },
        "extra": {
            "env": task.env_id,
            "split": task.split,
            "family": task.family,
            "task": task.id,
            "seed": task.seed,
            "success": trajectory.success,
            "stop_reason": trajectory.stop_reason.value,
            "return": trajectory.episode_return,
        },
    }
    if source.prompt.show_admissible_commands:
        record["notes"] = "The lists of admissible commands in the prompts are left out."
    return record


def _steps(trajectory: Trajectory, system: str) -> Iterator[dict[str, Any]]:
    """The steps without their numbers."""
    if system:
        yield {"source": "system", "message": system}
    turns = trajectory.turns
    lengths = _prompt_lengths(turns)
    # A cut thought and its action are one answer; the calls of the model are added up.
    calls: list[int] = []
    asked = False
    for place, turn in enumerate(turns):
        calls.append(place)
        if turn.kind == "thought":
            continue
        if not asked:
            yield {"source": "user", "message": turn.observation}
        step = _agent_step([turns[i] for i in calls], [lengths[i] for i in calls])
        is_last = place == len(turns) - 1
        following = trajectory.final_observation if is_last else turns[place + 1].observation
        # A summary is asked for between two actions, so its own observation repeats.
        asked = turn.kind == "action"
        if asked and (following or not is_last):
            step["observation"] = {"results": [{"content": following}]}
        yield step
        calls = []


def _agent_step(turns: Sequence[Turn], prompt_lengths: Sequence[int]) -> dict[str, Any]:
    """The step of an answer, which took one call of the model or two."""
    turn = turns[-1]
    text = answer_text(turn)
    step: dict[str, Any] = {"source": "agent", "message": text}
    sampled = turn.completion.policy_version >= 0
    thought = _THOUGHT.fullmatch(text)
    if sampled and thought:
        step |= {"message": thought["rest"], "reasoning_content": thought["thought"]}
    step["llm_call_count"] = len(turns) if sampled else 0
    if sampled:
        ids: list[int] = []
        logprobs: list[float] = []
        for part in turns:
            ids += part.completion.token_ids
            logprobs += part.completion.logprobs
        step["metrics"] = {
            "prompt_tokens": sum(prompt_lengths),
            "completion_tokens": len(ids),
            "completion_token_ids": ids,
            "logprobs": logprobs,
        }
    step["extra"] = {
        "kind": turn.kind,
        "command": turn.action.command,
        "admissible": turn.admissible,
        "reward": turn.reward,
        "cut_off": turn.completion.finish_reason is FinishReason.LENGTH,
    }
    return step


def _prompt_lengths(turns: Sequence[Turn]) -> list[int]:
    """The number of tokens that each turn's prompt has in all."""
    lengths = []
    before = 0
    for turn in turns:
        length = (0 if turn.new_prompt else before) + len(turn.prompt_token_ids)
        lengths.append(length)
        before = length + len(turn.completion.token_ids)
    return lengths


class _Result(BaseModel):
    """A reply of the environment; other keys are passed over, here and below."""

    content: str | None = None


class _Observation(BaseModel):
    """The replies to an answer."""

    results: list[_Result]


class _Step(BaseModel):
    """A step as far as it is learned from."""

    source: Literal["system", "user", "agent"]
    message: str
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None
    observation: _Observation | None = None
    is_copied_context: bool | None = None
    extra: dict[str, Any] | None = None


class _Trajectory(BaseModel):
    """An ATIF object as far as it is learned from."""

    schema_version: str
    trajectory_id: str | None = None
    steps: list[_Step]
    extra: dict[str, Any] | None = None


def is_atif(record: Any) -> bool:
    """Whether a JSON value is an ATIF object, by its `schema_version`."""
    return isinstance(record, dict) and str(record.get("schema_version", "")).startswith("ATIF-v1")


def chat_from_atif(record: Any) -> ChatEpisode:
    """Return an ATIF object as chat. Steps with `is_copied_context` are shown, not learned.

    Raises:
        ValueError: a field has another form, an answer is a tool call, or nothing is to be learned.
    """
    read = _Trajectory.model_validate(record)
    said: list[str] = []
    turns: list[ChatTurn] = []
    for number, step in enumerate(read.steps, start=1):
        if step.source == "user":
            said.append(step.message)
        if step.source != "agent":
            continue
        if step.tool_calls:
            raise ValueError(
                f"step {number} is a tool call, and a text environment takes text only; write the "
                "command as the step's message"
            )
        extra = step.extra or {}
        refused = extra.get("admissible") is False or extra.get("cut_off") is True
        thought = step.reasoning_content
        answer = step.message if thought is None else f"{TAGS[0]}{thought}{TAGS[1]}{step.message}"
        learned = not refused and not step.is_copied_context
        turns.append(ChatTurn(observation="\n\n".join(said), answer=answer, trained=learned))
        replies = step.observation.results if step.observation else []
        said = [reply.content for reply in replies if reply.content is not None]
    # Other programs may write anything under these names.
    extra = read.extra or {}
    named = {key: str(extra.get(key) or "") for key in ("task", "family")}
    done = extra.get("success") is True
    return chat_episode(turns, id=read.trajectory_id or "", success=done, **named)
