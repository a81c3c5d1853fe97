"""The folder of one stage of a run, open for writing: config, metrics, events, episodes."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from agent_rl.config import Config, ConfigError, dump_config
from agent_rl.files import naming_full_disk, write_text
from agent_rl.runs.episode_writer import EpisodeWriter
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.metrics_file import read_metrics
from agent_rl.runs.token_records import SampleTokens
from agent_rl.runs.trackers.running import RunningTrackers
from rollouts import TrajectoryGroup


class RunFolder:
    """Writes what one stage of a run leaves behind.

    `agent_rl.runs.layout` lists the files. `agent_rl.runs.checkpoint` writes checkpoints. As a
    context manager, it closes itself.
    """

    path: Path
    """The stage's folder, such as `RUN/train`."""
    layout: StageLayout
    """The paths in it."""

    def __init__(self, path: str | Path, config: Config, *, resume_from: int | None = None) -> None:
        """Open the folder and write the resolved config.

        Args:
            path: the stage's folder; is made if missing.
            config: the run's config.
            resume_from: the step to continue after. Later lines of metrics are deleted, because
                those steps will be done again. None starts a new run.

        Raises:
            ConfigError: without `resume_from`, the folder has metrics already.
        """
        self.path = Path(path)
        self.layout = StageLayout(self.path)
        metrics = self.layout.metrics_file
        if resume_from is None and self.layout.is_begun():
            raise ConfigError(
                f"{self.path}: holds a run already; delete the folder, or name another "
                "run_folder=..."
            )
        self.layout.trajectories.mkdir(parents=True, exist_ok=True)
        self.episodes = EpisodeWriter(self.layout)
        """Writes what `write_groups` gets, in a thread of its own."""
        write_text(self.layout.config_file, dump_config(config))
        if resume_from is not None and metrics.exists():
            _keep_until(metrics, resume_from)
        self._metrics = metrics.open("a")
        # Imported here: the command line checks a config before anything heavy is loaded.
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_from is None else resume_from + 1
        self._events = SummaryWriter(str(self.layout.tensorboard), purge_step=purge)
        # Last: they follow the files that are written above.
        self._trackers = RunningTrackers(self.layout, config)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Append a line of metrics, and write the same to TensorBoard.

        Other trackers read it from the file (`agent_rl.runs.trackers`).
        """
        with naming_full_disk(self.layout.metrics_file):
            self._metrics.write(json.dumps({"step": step, **metrics}) + "\n")
            self._metrics.flush()
        with naming_full_disk(self.layout.tensorboard):
            for name, value in metrics.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()

    def write_groups(
        self,
        step: int,
        groups: Sequence[TrajectoryGroup],
        *,
        keep: int | None = None,
        tokens: Sequence[SampleTokens] | None = None,
    ) -> None:
        """Begin to write the episodes of one rollout step, a line each; `episodes` goes on.

        Args:
            step: the rollout step; its file is replaced if there is one.
            groups: its groups.
            keep: how many of the newest steps keep their file, this one among them; None keeps
                all. With 0, nothing is written, and the files of earlier steps are deleted.
            tokens: the numbers of their trained tokens, which are kept as long; None keeps none.
        """
        self.episodes.write(step, groups, keep, tokens)

    def close(self, *, complete: bool = True) -> None:
        """Wait for the episodes, close the files, and let the trackers finish.

        Args:
            complete: whether the stage was done to its end, for the trackers.

        Raises:
            OSError: episodes or metrics could not be written.
        """
        with ExitStack() as all_files:
            # Called last.
            all_files.callback(self._trackers.close, complete=complete)
            all_files.callback(self.episodes.close)
            all_files.callback(self._events.close)
            all_files.enter_context(naming_full_disk(self.layout.metrics_file))
            self._metrics.close()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(complete=error is None)


def _keep_until(path: Path, step: int) -> None:
    """Keep one line of metrics of each step until `step`, the last; torn lines are left out."""
    kept = []
    for logged, metrics in read_metrics(path).items():
        if logged <= step:
            kept.append(json.dumps({"step": logged, **metrics}) + "\n")
    write_text(path, "".join(kept))
