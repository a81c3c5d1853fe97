"""`agent-rl bench sync`: an update of the served weights, against a plain copy of the same bytes.

An update has two parts: the learner writes the serving copy, and the engine loads it. The copy that
it is compared with is made in the same folder, of the file that the update has written. On a Ray
cluster the engine may be on another node; then loading includes the way there.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from agent_rl.commands.bench.gpu.shapes import SMOLLM2
from agent_rl.commands.bench.small_policy import make_small_policy, small_config
from agent_rl.config import Config
from agent_rl.display import console, progress, say
from agent_rl.files import write_json
from agent_rl.policy.folder import WEIGHTS
from agent_rl.policy.from_scratch import init_model
from agent_rl.policy.loading import load_policy
from agent_rl.policy.weight_sync import ServingCopy
from agent_rl.training.pool import open_pool
from rollouts.workers.pool import RolloutPool

_SMALL, _SMOLLM2 = "small, from scratch", "shape of SmolLM2-135M, random"
_SMOLLM2_VOCABULARY = 49152
_WORLD = (
    # The lightest world: a pool has one, and no episode is played here.
    "env.id=guess-the-number",
    "workers.count=1",
    "workers.envs_per_worker=1",
    # A short context, so that the KV cache of any model fits.
    "serving.context_length=256",
    "model.context_length=256",
)


@dataclass(frozen=True, kw_only=True)
class SyncTime:
    """The seconds of one update, and of the plain copy."""

    write: float
    """Writing the serving copy."""
    reload: float
    """Loading it into the engine, with the messages to the engine's process."""
    copy: float
    """Copying the file of the weights within its folder."""

    @property
    def whole(self) -> float:
        """The whole update."""
        return self.write + self.reload


@dataclass(frozen=True, kw_only=True)
class ModelSyncs:
    """The updates of one model."""

    model: str
    """Its path or what it is like."""
    parameters: int
    """Its weights."""
    gigabytes: float
    """The size of the file with the served weights, in 1e9 bytes."""
    folder: str
    """Where the serving copy was."""
    node: str
    """Where the engine was, as the learner sees it: `same` or `another`."""
    updates: list[SyncTime]
    """The updates that were timed."""

    def median(self, part: str) -> float:
        """The median seconds of a part of the update."""
        return float(statistics.median(getattr(update, part) for update in self.updates))

    def record(self) -> dict[str, Any]:
        """The measurements for a file."""
        parts = ("write", "reload", "whole", "copy")
        medians = {part: self.median(part) for part in parts}
        rates = {part: self.gigabytes / seconds for part, seconds in medians.items()}
        return {**asdict(self), "seconds": medians, "gigabytes_per_second": rates}


def bench_sync(model: str | None, *, repeats: int, json_file: Path | None) -> None:
    """Time updates; print medians.

    Args:
        model: a folder or hub name; None: the small policy, and the shape of SmolLM2-135M.

    Raises:
        ValueError: the model cannot be loaded or served.
    """
    names = [model] if model else [_SMALL, _SMOLLM2]
    measured = []
    with progress("updates", len(names) * (repeats + 1)) as advance:
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                config = small_config(Path(folder), _WORLD)
                policy, tokenizer = _policy(name, config, named=model is not None)
                with _served(config, policy, tokenizer) as (copy, pool):
                    load = partial(_load, pool, copy, count(1))
                    updates = _updates(copy, load, repeats, partial(advance, name))
                    size = (copy.folder / WEIGHTS).stat().st_size
                    row = ModelSyncs(
                        model=name,
                        parameters=sum(weight.numel() for weight in policy.parameters()),
                        gigabytes=size / 1e9,
                        folder=str(copy.folder.parent),
                        node="another" if pool.engines_elsewhere else "same",
                        updates=updates,
                    )
            measured.append(row)
    console.print(table(measured))
    if json_file is not None:
        write_json(json_file, [row.record() for row in measured])
        say(f"written to {json_file}")


@contextmanager
def _served(
    config: Config, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> Iterator[tuple[ServingCopy, RolloutPool]]:
    """Yield a serving copy, and a pool whose engine serves it."""
    copy = ServingCopy(model, tokenizer, config.serving.dtype)
    try:
        with open_pool(config, copy.folder, serve=True) as pool:
            yield copy, pool
    finally:
        copy.close()


def _load(pool: RolloutPool, copy: ServingCopy, versions: Iterator[int]) -> None:
    pool.sync_weights(copy.folder, next(versions))


def _updates(
    copy: ServingCopy, load: Callable[[], None], repeats: int, advance: Callable[[], None]
) -> list[SyncTime]:
    updates = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        copy.write()
        written = time.perf_counter()
        load()
        loaded = time.perf_counter()
        plain = copy.folder / "plain-copy"
        shutil.copyfile(copy.folder / WEIGHTS, plain)
        copied = time.perf_counter()
        plain.unlink()
        update = SyncTime(write=written - begin, reload=loaded - written, copy=copied - loaded)
        updates.append(update)
        advance()
    # The first one also finds its memory: it is not counted.
    return updates[1:]


def _policy(
    name: str, config: Config, *, named: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if named:
        return load_policy(name)
    small, tokenizer = load_policy(make_small_policy(config))
    if name == _SMALL:
        return small, tokenizer
    model = init_model(SMOLLM2, tokenizer)
    # More rows than the tokenizer has tokens: only the size matters here.
    model.resize_token_embeddings(_SMOLLM2_VOCABULARY, mean_resizing=False)
    return model, tokenizer


def table(measured: Sequence[ModelSyncs]) -> Table:
    """The seconds and the rate of each part, and the copy's share of the whole update."""
    shown = Table(title="An update of the served weights, medians", title_justify="left")
    shown.add_column("")
    for row in measured:
        shown.add_column(row.model, justify="right")
    shown.add_row("parameters, M", *(f"{row.parameters / 1e6:.1f}" for row in measured))
    shown.add_row("served weights, GB", *(f"{row.gigabytes:.3f}" for row in measured))
    shown.add_row("served weights in", *(row.folder for row in measured))
    shown.add_row("the engine's node", *(row.node for row in measured))
    titles = {
        "write": "write the copy",
        "reload": "load it into the engine",
        "whole": "the whole update",
        "copy": "a plain copy",
    }
    for part, title in titles.items():
        shown.add_row(f"{title}, s", *(f"{row.median(part):.3f}" for row in measured))
        rates = [row.gigabytes / row.median(part) for row in measured]
        shown.add_row(f"{title}, GB/s", *(f"{rate:.2f}" for rate in rates))
    ratios = [row.median("whole") / row.median("copy") for row in measured]
    shown.add_row("whole update / plain copy", *(f"{ratio:.1f}" for ratio in ratios))
    return shown
