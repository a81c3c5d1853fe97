"""Numbers of each token that a rollout step trained, in compressed arrays beside its episodes.

The file is numpy's `.npz`. `samples` has a row for each part of an episode that went through the
learner. The other arrays have the tokens of these parts, one part after the other:

    samples       group  member  part  tokens  optimizer step     (each from 1)
                  3      5       1     2       4
    log_ratio     0.1   -0.2     ...                              one number for each token

Episodes with advantage 0, and those of dropped groups, never went through the learner, so they have
no row. A part is the tokens of one prompt that only grew; usually an episode is one part.
"""

import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent_rl.config import ConfigError
from agent_rl.files import whole_file
from agent_rl.runs.episode_ids import EpisodeId
from rollouts import Trajectory

Numbers = Mapping[str, NDArray[Any]]
"""By the column's name a number for each token, of shape [tokens]."""

COLUMNS: Mapping[str, Any] = {
    "log_ratio": np.float32,
    "mismatch": np.float32,
    "entropy": np.float32,
    "kl": np.float32,
    "advantage": np.float32,
    "share": np.float32,
    "weight": np.float32,
    "clipped": np.uint8,
    "left_out": np.bool_,
    "capped": np.bool_,
    "staleness": np.int32,
}
"""The columns with their types; docs/episodes.md says what they mean."""
CLIPPED = ("", "low", "high", "dual")
"""What the numbers of the column `clipped` stand for: the bound that removed the gradient."""

_SAMPLES = "samples"
_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, LookupError, EOFError, TypeError)


@dataclass(frozen=True, kw_only=True)
class SampleTokens:
    """The numbers of one part of an episode."""

    id: EpisodeId
    """The episode."""
    part: int
    """The part of it, from 1."""
    optimizer_step: int
    """The optimizer step of the update that trained it, from 1."""
    numbers: Numbers
    """By column a number for each of the policy's tokens in the part, in their order."""

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return len(self.numbers["log_ratio"])


def write_token_records(path: Path, samples: Sequence[SampleTokens]) -> None:
    """Write the numbers of a rollout step, whole or not at all."""
    rows = []
    for sample in samples:
        place = sample.id
        rows.append((place.group, place.member, sample.part, sample.tokens, sample.optimizer_step))
    arrays: dict[str, Any] = {_SAMPLES: np.array(rows, dtype=np.int32).reshape(-1, 5)}
    for name, kind in COLUMNS.items():
        values = [np.asarray(sample.numbers[name]).astype(kind) for sample in samples]
        arrays[name] = np.concatenate(values) if values else np.zeros(0, dtype=kind)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_token_records(path: Path, step: int) -> dict[EpisodeId, tuple[SampleTokens, ...]]:
    """Read what `write_token_records` wrote: the parts of each episode that was trained.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file; train.keep_token_records: true writes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (_SAMPLES, *COLUMNS)}
        return _by_episode(arrays, step)
    except _DAMAGED as error:
        raise ConfigError(f"{path}: damaged ({error}); delete it to go on without it") from error


def numbers_of_turns(
    trajectory: Trajectory, samples: Iterable[SampleTokens], path: Path
) -> tuple[Numbers | None, ...]:
    """Return for each turn of an episode the numbers of its tokens, cut out of those of its part.

    Args:
        trajectory: the episode.
        samples: its parts that went through the learner. Turns of other parts get None.
        path: the file of the records, for the error's message.

    Raises:
        ConfigError: a part has other tokens than the episode.
    """
    of_part = {sample.part: sample for sample in samples}
    found: list[Numbers | None] = []
    for number, part in enumerate(trajectory.parts, start=1):
        sample = of_part.get(number)
        lengths = [len(turn.completion.token_ids) for turn in part.turns]
        if sample is None:
            found += [None] * len(lengths)
            continue
        if sample.tokens != sum(lengths):
            raise ConfigError(
                f"{path}: is of other episodes: it has {sample.tokens} tokens of {sample.id}, "
                f"which has {sum(lengths)}; delete it to go on without it"
            )
        ends = np.cumsum(lengths).tolist()
        for length, end in zip(lengths, ends, strict=True):
            found.append({k: values[end - length : end] for k, values in sample.numbers.items()})
    return tuple(found)


def _by_episode(arrays: Numbers, step: int) -> dict[EpisodeId, tuple[SampleTokens, ...]]:
    found: dict[EpisodeId, tuple[SampleTokens, ...]] = {}
    begin = 0
    for group, member, part, tokens, optimizer_step in arrays[_SAMPLES].tolist():
        end = begin + tokens
        numbers = {name: arrays[name][begin:end] for name in COLUMNS}
        if any(len(values) != tokens for values in numbers.values()):
            raise ValueError("its arrays are shorter than its table says")
        episode_id = EpisodeId(step, group, member)
        sample = SampleTokens(
            id=episode_id, part=part, optimizer_step=optimizer_step, numbers=numbers
        )
        found[episode_id] = (*found.get(episode_id, ()), sample)
        begin = end
    return found
