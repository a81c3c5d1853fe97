"""Writes the episodes of rollout steps in a thread, so that training does not wait for it."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from agent_rl.files import UNFINISHED
from agent_rl.runs.episode_ids import ids_of_groups
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.token_records import SampleTokens, write_token_records
from agent_rl.runs.trajectories import write_trajectories
from rollouts import Trajectory, TrajectoryGroup

MOST_WAITING = 2
"""Rollout steps whose episodes may wait in memory."""


class EpisodeWriter:
    """Writes files of episodes one after the other.

    A write that fails raises its error once, in the next `raise_failed`, `wait` or `close`.
    """

    def __init__(self, layout: StageLayout) -> None:
        """Delete what a killed process left half written. No other process may write there."""
        self._layout = layout
        for leftover in layout.trajectories.glob(f"step-*{UNFINISHED}*"):
            leftover.unlink()
        # A process that ends without `close` waits for this thread all the same.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="episodes")
        self._begun: list[Future[None]] = []

    def write(
        self,
        step: int,
        groups: Sequence[TrajectoryGroup],
        keep: int | None,
        tokens: Sequence[SampleTokens] | None = None,
    ) -> None:
        """Begin to write the episodes of a step, as `RunFolder.write_groups` says.

        If two steps wait already, this waits for the first of them.
        """
        unfinished = [write for write in self._begun if not write.done()]
        if len(unfinished) >= MOST_WAITING:
            wait(unfinished[:1])
        self._begun.append(self._thread.submit(self._write, step, groups, keep, tokens))

    def raise_failed(self) -> None:
        """Raise the error of the first write that failed, if there is one.

        Raises:
            OSError: a file could not be written, as the disk is full; `filename` is its path.
        """
        ended = [write for write in self._begun if write.done()]
        self._begun = [write for write in self._begun if write not in ended]
        for write in ended:
            write.result()

    def wait(self) -> None:
        """Wait until all is on disk; raises as `raise_failed`."""
        wait(self._begun)
        self.raise_failed()

    def close(self) -> None:
        """Wait, as `wait` does, and end the thread."""
        self._thread.shutdown()
        self.raise_failed()

    def _write(
        self,
        step: int,
        groups: Sequence[TrajectoryGroup],
        keep: int | None,
        tokens: Sequence[SampleTokens] | None,
    ) -> None:
        path = self._layout.step_episodes(step)
        if keep != 0:
            episodes: list[Trajectory] = []
            for group in groups:
                episodes += group.trajectories
            write_trajectories(path, episodes, ids=ids_of_groups(step, groups))
        records = self._layout.token_records(step)
        if tokens is not None and keep != 0:
            write_token_records(records, tokens)
        else:
            # A step that is done again has other episodes.
            records.unlink(missing_ok=True)
        for other_step, other in self._layout.all_token_records():
            if keep is not None and other_step <= step - keep:
                other.unlink(missing_ok=True)
        for other_step, other in self._layout.all_step_episodes():
            # A run of an earlier version, resumed, has a file of this step under another name.
            replaced = other_step == step and other != path
            if replaced or (keep is not None and other_step <= step - keep):
                other.unlink(missing_ok=True)
