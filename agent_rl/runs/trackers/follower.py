"""Follows the files of a stage, and tells a tracker what is new in them.

The files are the queue: they hold all that a tracker may have to be told. So it may be slow, away
for an hour or never there, and the run never waits for it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

from agent_rl.config.sections import TrackingSettings
from agent_rl.files import read_json_object, write_json
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.trackers.tracker import Tracker


@dataclass(frozen=True)
class Told:
    """How far a tracker was told of a stage. A resumed run goes on from there."""

    run_id: str = ""
    """The tracker's id of the run; empty until there is one."""
    step: int = 0
    """The newest step whose metrics it was told."""
    evaluation: int = 0
    """The newest rollout step whose evaluation it was told."""
    episodes: int = 0
    """The newest rollout step whose episodes it was told."""

    @classmethod
    def read(cls, layout: StageLayout, name: str) -> "Told":
        """What an earlier process has told; nothing if its file is missing or damaged."""
        path = layout.tracker_state(name)
        if not path.is_file():
            return cls()
        try:
            return cls(**read_json_object(path))
        except (ValueError, TypeError):
            return cls()


class Follower:
    """Tells one tracker of one stage, each step once.

    A step is marked as told before it is: a kill between the two loses a step in the tracker, where
    the other order would show it twice. An error takes the mark away again.
    """

    def __init__(
        self, layout: StageLayout, name: str, settings: TrackingSettings, told: Told
    ) -> None:
        """Follow the stage's folder.

        Args:
            layout: the stage's files.
            name: the tracker's.
            settings: say how many episodes are told, and how often.
            told: what is told already.
        """
        self.told = told
        """What is told by now."""
        self._layout, self._name, self._settings = layout, name, settings
        self._read = 0
        """Bytes of the metrics that were read."""

    def steps_to_tell(self) -> int:
        """How many steps there are that the tracker was not told."""
        return sum(1 for _ in self._new_lines())

    def tell_new(self, tracker: Tracker) -> None:
        """Tell what is new, in the order of the steps: metrics, then the evaluation, if any.

        Raises:
            Exception: of the tracker. The same is told again in the next call.
        """
        for step, metrics, end in self._new_lines():
            # A step is evaluated before the next one's line is written.
            self._tell_evaluations(tracker, before=step)
            with self._marked(replace(self.told, step=step)):
                tracker.log(step, metrics)
            self._read = end
        self._tell_evaluations(tracker, before=self.told.step + 1)
        self._tell_episodes(tracker)

    def keep(self, told: Told) -> None:
        """Set how far the tracker was told, here and in its file."""
        self.told = told
        path = self._layout.tracker_state(self._name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(told))

    @contextmanager
    def _marked(self, told: Told) -> Iterator[None]:
        """Mark as told for the time of a block, and for good if the block succeeds."""
        before = self.told
        self.keep(told)
        try:
            yield
        except BaseException:
            self.keep(before)
            raise

    def _new_lines(self) -> Iterator[tuple[int, dict[str, float], int]]:
        """The steps that were not told, with their metrics and the place after their line.

        A resumed run cuts steps that the tracker was told, and repeats them: they are not new.
        """
        if not self._layout.metrics_file.is_file():
            return
        with self._layout.metrics_file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is being written
                try:
                    metrics = json.loads(line)
                    step = int(metrics.pop("step"))
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue
                if step > self.told.step:
                    yield step, metrics, file.tell()

    def _tell_evaluations(self, tracker: Tracker, *, before: int) -> None:
        """Tell the evaluations after steps below `before`."""
        for step, path in self._layout.reports().items():
            if not self.told.evaluation < step < before:
                continue
            # It loads scipy, which a run without evaluations does not need.
            from agent_rl.evaluation.report import read_report
            from agent_rl.runs.trackers.tables import evaluation_metrics, evaluation_table

            report = read_report(path)
            with self._marked(replace(self.told, evaluation=step)):
                tracker.log(step, evaluation_metrics(report))
                tracker.table(step, evaluation_table(report))

    def _tell_episodes(self, tracker: Tracker) -> None:
        """Tell some episodes of every so many rollout steps, and of the first."""
        settings = self._settings
        if not settings.episodes:
            return
        for step, path in sorted(self._layout.all_step_episodes()):
            due = step == 1 or step % settings.episodes_every == 0
            if not due or not self.told.episodes < step <= self.told.step:
                continue
            from agent_rl.runs.trackers.tables import episodes_table
            from agent_rl.runs.trajectories import load_trajectories

            table = episodes_table(step, load_trajectories(path), settings.episodes)
            with self._marked(replace(self.told, episodes=step)):
                # Their file may come after the metrics of later steps.
                tracker.table(self.told.step, table)
