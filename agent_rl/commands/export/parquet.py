"""Episodes as a parquet file for pandas and datasets: a row each, with tokens, mask and log-probs.

pyarrow is an optional extra.
"""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from agent_rl.commands.export.chosen_episodes import StoredEpisode
from agent_rl.config import ConfigError
from agent_rl.runs.chats import messages_record

_ROWS = 500
"""Episodes of a row group: what is in memory at a time."""


def require_pyarrow() -> None:
    """Raise a ConfigError if pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise ConfigError(
            "--format parquet: needs pyarrow, which is not installed; `pip install pyarrow` (or "
            "the extra, agent-rl[parquet]), or take --format messages"
        )


def episode_row(stored: StoredEpisode, *, run: str, system: str) -> dict[str, Any]:
    """Return an episode as a row, in JSON's types.

    The tokens are those that the policy read and wrote, part after part. `part_lengths` are the
    lengths of the parts, which have a prompt of their own each; usually there is one.
    """
    trajectory = stored.trajectory
    record = messages_record(trajectory, episode_id=stored.id, system=system)
    versions = [turn.completion.policy_version for turn in trajectory.turns]
    return {
        **record,
        "run": run,
        "step": stored.step,
        "seed": trajectory.task.seed,
        "scene": trajectory.task.scene,
        "stop_reason": trajectory.stop_reason.value,
        "turns": len(trajectory.actions),
        "invalid_actions": trajectory.invalid_actions,
        "rewards": [turn.reward for turn in trajectory.turns],
        "policy_version": min(versions),
        "token_ids": list(trajectory.token_ids),
        "action_mask": list(trajectory.action_mask),
        "logprobs": list(trajectory.behavior_logprobs),
        "part_lengths": [len(part.token_ids) for part in trajectory.parts],
    }


def write_parquet(path: Path, stored: Iterable[StoredEpisode], *, run: str, system: str) -> None:
    """Write a row for each episode. `require_pyarrow` comes first."""
    import pyarrow
    from pyarrow import parquet

    schema = _schema(pyarrow)
    with parquet.ParquetWriter(path, schema) as writer:
        for rows in _batches(stored, run, system):
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))


def _batches(
    stored: Iterable[StoredEpisode], run: str, system: str
) -> Iterator[list[dict[str, Any]]]:
    episodes = iter(stored)
    while batch := list(islice(episodes, _ROWS)):
        yield [episode_row(episode, run=run, system=system) for episode in batch]


def _schema(pyarrow: Any) -> Any:
    """The columns with their types, which do not depend on the rows."""
    text, integer, real = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    message = pyarrow.struct([("role", text), ("content", text), ("weight", pyarrow.int8())])
    columns = {
        "id": text,
        "run": text,
        "step": integer,
        "env": text,
        "split": text,
        "family": text,
        "task": text,
        "seed": integer,
        "scene": text,
        "success": pyarrow.bool_(),
        "return": real,
        "stop_reason": text,
        "turns": integer,
        "invalid_actions": integer,
        "policy_version": integer,
        "messages": pyarrow.list_(message),
        "rewards": pyarrow.list_(real),
        "token_ids": pyarrow.list_(pyarrow.int32()),
        "action_mask": pyarrow.list_(pyarrow.bool_()),
        "logprobs": pyarrow.list_(pyarrow.float32()),
        "part_lengths": pyarrow.list_(pyarrow.int32()),
    }
    return pyarrow.schema(list(columns.items()))
