"""The form of ATIF v1.7 as a schema of our own, written from harbor's RFC 0001.

Its fields were compared with harbor's own models (harbor 0.26.0, which needs Python 3.12).
"""

from typing import Any

from jsonschema import Draft202012Validator

_TEXT, _COUNT, _ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "object"}
_IDS = {"type": "array", "items": {"type": "integer"}}


def _closed(required: tuple[str, ...], **fields: Any) -> dict[str, Any]:
    """An object that has no other fields, as each object of the format."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


_METRICS = _closed(
    (),
    prompt_tokens=_COUNT,
    completion_tokens=_COUNT,
    cached_tokens=_COUNT,
    cost_usd={"type": "number"},
    prompt_token_ids=_IDS,
    completion_token_ids=_IDS,
    logprobs={"type": "array", "items": {"type": "number"}},
    extra=_ANY,
)
_RESULT = _closed((), source_call_id=_TEXT, content=_TEXT, extra=_ANY)
_STEP = _closed(
    ("step_id", "source", "message"),
    step_id={"type": "integer", "minimum": 1},
    timestamp=_TEXT,
    source={"enum": ["system", "user", "agent"]},
    model_name=_TEXT,
    message=_TEXT,
    reasoning_content=_TEXT,
    tool_calls={"type": "array"},
    observation=_closed(("results",), results={"type": "array", "items": _RESULT}),
    metrics=_METRICS,
    is_copied_context={"type": "boolean"},
    llm_call_count=_COUNT,
    extra=_ANY,
)
ATIF_SCHEMA = _closed(
    ("schema_version", "agent", "steps"),
    schema_version={"const": "ATIF-v1.7"},
    session_id=_TEXT,
    trajectory_id=_TEXT,
    agent=_closed(("name", "version"), name=_TEXT, version=_TEXT, model_name=_TEXT, extra=_ANY),
    steps={"type": "array", "minItems": 1, "items": _STEP},
    notes=_TEXT,
    final_metrics=_closed(
        (),
        total_prompt_tokens=_COUNT,
        total_completion_tokens=_COUNT,
        total_steps=_COUNT,
        extra=_ANY,
    ),
    extra=_ANY,
)
_AGENT_ONLY = {"model_name", "reasoning_content", "tool_calls", "metrics"}


def assert_atif(record: Any) -> None:
    """Fail if a record breaks the schema, or a rule of the format that a schema cannot say."""
    Draft202012Validator(ATIF_SCHEMA).validate(record)
    for number, step in enumerate(record["steps"], start=1):
        assert step["step_id"] == number
        if step["source"] != "agent":
            assert not _AGENT_ONLY & step.keys(), step
        elif step.get("llm_call_count") == 0:
            assert not {"metrics", "reasoning_content"} & step.keys(), step
