"""The episodes of a run for the page: their index, and chunks with all that they hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agent_rl.commands.report.chunks import Chunk, TurnTraining
from agent_rl.commands.report.rooms import room_of
from agent_rl.commands.report.step_training import training_of_step
from agent_rl.config import Config, ConfigError
from agent_rl.evaluation.episodes import evaluation_folders, repeat_files, stored_episodes
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import StageLayout, step_of_policy_name
from agent_rl.runs.trajectories import load_step_episodes
from rollouts import Trajectory

CHUNK_EPISODES = 192
"""A chunk ends with the group that reaches so many episodes, and at the end of a step."""
COLUMNS = (
    "id",
    "source",
    "step",
    "family",
    "task",
    "outcome",
    "return",
    "turns",
    "refused",
    "advantage",
    "training",
    "chunk",
    "place",
)
"""The columns of the index of episodes."""
_NOT_SCORED = "not scored"
TRAINING = "training"
"""The source of training episodes; that of others is the name of their evaluation."""


@dataclass(frozen=True, kw_only=True)
class EpisodePages:
    """The episodes of one rollout step, or of one evaluation, ready for the page."""

    rows: Sequence[Sequence[Any]]
    """A row of `COLUMNS` for each episode in the page; `chunk` counts from the first of these."""
    chunks: Sequence[str]
    """The packed chunks."""
    played: int
    """All episodes of it, with those that are not in the page."""
    families: Mapping[str, tuple[int, int]]
    """Successes and scored episodes by family, of all its episodes."""
    token_ids: frozenset[int]
    """The ids that occur in the page's episodes."""
    note: str = ""
    """Why the numbers of their tokens are missing though the run kept them; else empty."""


@dataclass(kw_only=True)
class RunPages:
    """The episodes of one run, ready for the page."""

    steps: dict[int, EpisodePages] = field(default_factory=dict)
    """By rollout step."""
    evaluations: dict[str, EpisodePages] = field(default_factory=dict)
    """Those of `agent-rl evaluate`, by the evaluation's name."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files that could not be read."""

    @property
    def all(self) -> list[EpisodePages]:
        """The rollout steps, then the evaluations."""
        return [*self.steps.values(), *self.evaluations.values()]

    @property
    def played(self) -> int:
        """All episodes in the files."""
        return sum(pages.played for pages in self.all)

    @property
    def shown(self) -> int:
        """The episodes in the page."""
        return sum(len(pages.rows) for pages in self.all)


Done = Callable[[str], None]
"""Is called with the name of each file of training episodes, after it was read."""
_Mark = tuple[Path, int, int]
_Key = tuple[tuple[_Mark, ...], float]


class EpisodeReader:
    """Reads episodes, and remembers the steps that it has read: `--watch` reads new ones only."""

    def __init__(self) -> None:
        self._known: dict[_Key, EpisodePages] = {}

    def read(
        self,
        training: StageLayout,
        config: Config,
        *,
        evaluations: Path | None = None,
        share: float,
        done: Done,
    ) -> RunPages:
        """Read all episodes of a run.

        Args:
            training: the files of its training.
            config: its config, for the advantages.
            evaluations: the folder of its evaluations, if there is one.
            share: the part of the groups that come into the page, from 0 to 1.
            done: is called after each file of training episodes.
        """
        pages = RunPages()
        for step, path in sorted(training.all_step_episodes()):
            records = training.token_records(step)
            files = [path, records] if records.is_file() else [path]
            make = partial(step_pages, path, step, config, share=share, records=records)
            of_step = self._read(files, share, make, pages.notes)
            if of_step is not None:
                pages.steps[step] = of_step
            done(path.name)
        for folder in [] if evaluations is None else evaluation_folders(evaluations):
            make = partial(evaluation_pages, folder, share=share)
            of_evaluation = self._read(repeat_files(folder), share, make, pages.notes)
            if of_evaluation is not None:
                pages.evaluations[folder.name] = of_evaluation
        return pages

    def _read(
        self,
        files: Sequence[Path],
        share: float,
        make: Callable[[], EpisodePages],
        notes: list[str],
    ) -> EpisodePages | None:
        """Read files that are not known yet; None if they are gone, or damaged: that is noted."""
        try:
            key = (tuple(map(_mark, files)), share)
            if key not in self._known:
                self._known[key] = make()
        except FileNotFoundError:
            return None  # A run that is going on deletes its oldest files.
        except ConfigError as error:
            notes.append(str(error))
            return None
        pages = self._known[key]
        if pages.note:
            notes.append(pages.note)
        return pages


def _mark(path: Path) -> tuple[Path, int, int]:
    """Changes with every change of a file."""
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def _size(path: Path) -> int:
    """Its bytes; 0 if a run that is going on has deleted it."""
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def step_pages(
    path: Path, step: int, config: Config, *, share: float = 1.0, records: Path | None = None
) -> EpisodePages:
    """Read the episodes of one rollout step.

    Args:
        path: their file.
        step: the rollout step.
        config: the run's config, for the advantages.
        share: the part of the groups that come into the page: at least the first one.
        records: the file of the numbers of their trained tokens, which may be missing. A damaged
            one is told in `EpisodePages.note`.

    Raises:
        ConfigError: the file of episodes is damaged.
    """
    named = load_step_episodes(path, step)
    groups: dict[int, dict[EpisodeId, Trajectory]] = {}
    for name, episode in named.items():
        groups.setdefault(name.group, {})[name] = episode
    trained, note = training_of_step(list(groups.values()), step, config, records)
    packer = _Packer()
    for group, of_group in sampled(list(zip(groups.values(), trained, strict=True)), share):
        for (name, episode), of_turns in zip(group.items(), of_group.of_episodes, strict=True):
            packer.add(_row(name, episode, of_turns, of_group.dropped), episode, of_turns)
        packer.end_group()
    return packer.pages(list(named.values()), note)


def evaluation_pages(folder: Path, *, share: float = 1.0) -> EpisodePages:
    """Read the episodes of an evaluation; those of one game, a repeat each, stand together.

    Args:
        folder: as `evaluation_folders` finds it.
        share: the part of the games that come into the page: at least the first one.

    Raises:
        ConfigError: a file is damaged.
    """
    games: dict[str, dict[str, Trajectory]] = {}
    for name, episode in stored_episodes(folder):
        games.setdefault(episode.task.id, {})[name] = episode
    packer = _Packer()
    for game in sampled(list(games.values()), share):
        for name, episode in game.items():
            told = "evaluated" if episode.trains else _NOT_SCORED
            step = step_of_policy_name(folder.name)
            packer.add([name, folder.name, step, *_facts(episode), None, told], episode)
        packer.end_group()
    return packer.pages([episode for game in games.values() for episode in game.values()])


class _Packer:
    """Puts episodes into chunks, and keeps their rows."""

    def __init__(self) -> None:
        self._rows: list[list[Any]] = []
        self._chunks: list[str] = []
        self._chunk = Chunk()
        self._token_ids: set[int] = set()

    def add(
        self, row: Iterable[Any], episode: Trajectory, training: Sequence[TurnTraining] = ()
    ) -> None:
        """Add an episode, with the cells of its row up to its place."""
        self._rows.append([*row, len(self._chunks), len(self._chunk)])
        self._chunk.add(episode, room_of(episode), training)
        self._token_ids.update(episode.token_ids)

    def end_group(self, most: int = CHUNK_EPISODES) -> None:
        """End the chunk if it has `most` episodes: a group is in one chunk."""
        if len(self._chunk) >= most:
            self._chunks.append(self._chunk.packed())
            self._chunk = Chunk()

    def pages(self, played: Sequence[Trajectory], note: str = "") -> EpisodePages:
        """All that was added, out of the episodes that were played."""
        self.end_group(most=1)
        return EpisodePages(
            rows=self._rows,
            chunks=self._chunks,
            played=len(played),
            families=_families(played),
            token_ids=frozenset(self._token_ids),
            note=note,
        )


Item = TypeVar("Item")


def sampled(items: Sequence[Item], share: float) -> Iterator[Item]:
    """Hand out a share of the items, evenly: of a third the first, the fourth and so on."""
    for number, item in enumerate(items):
        if not number or int(number * share) != int((number - 1) * share):
            yield item


def share_that_fits(
    runs: Sequence[tuple[StageLayout, Config]], most_mb: float, evaluations: Sequence[Path] = ()
) -> float:
    """The part of the groups whose episodes fit into the page, from 0 to 1.

    A run's newest file of episodes is packed to see how much it grows or shrinks. Its other files
    are taken to do the same, and so are all evaluations of a run by its first one.

    Args:
        runs: the files of each run's training, and its config.
        most_mb: the most megabytes of packed episodes.
        evaluations: the folder of evaluations of each run.
    """
    needed = 0.0
    for training, config in runs:
        files = sorted(training.all_step_episodes(), reverse=True)
        choices: list[_Choice] = []
        for step, path in files:
            make = partial(step_pages, path, step, config, records=training.token_records(step))
            choices.append(([path], make))
        needed += _needed(choices)
    for of_run in evaluations:
        folders = evaluation_folders(of_run)
        needed += _needed(
            [(repeat_files(path), partial(evaluation_pages, path)) for path in folders]
        )
    return min(1.0, most_mb * 1e6 / needed) if needed else 1.0


_Choice = tuple[Sequence[Path], Callable[[], EpisodePages]]


def _needed(choices: Sequence[_Choice]) -> float:
    """The characters of all choices in the page, if each grows as the first that can be read."""
    sizes = [sum(map(_size, files)) for files, _ in choices]
    for size, (_, make) in zip(sizes, choices, strict=True):
        with suppress(ConfigError):
            return sum(sizes) * sum(map(len, make().chunks)) / max(size, 1)
    return 0.0


def _row(
    name: EpisodeId, episode: Trajectory, training: Sequence[TurnTraining], dropped: bool
) -> Iterator[Any]:
    """The cells of an episode's row, up to its place in a chunk."""
    advantages = [turn.advantage for turn in training if turn.advantage is not None]
    yield from (str(name), TRAINING, name.step)
    yield from _facts(episode)
    yield round(sum(advantages) / len(advantages), 4) if advantages else None
    if not episode.trains:
        yield _NOT_SCORED
    elif dropped:
        yield "group dropped"
    elif not any(advantages):
        yield "advantage 0"
    else:
        yield "trained"


def _facts(episode: Trajectory) -> Iterator[Any]:
    """The cells from the family to the refused commands."""
    yield episode.task.family
    yield episode.task.id
    yield episode.stop_reason.value
    yield round(episode.episode_return, 4)
    yield len(episode.actions)
    yield episode.invalid_actions


def _families(episodes: Sequence[Trajectory]) -> dict[str, tuple[int, int]]:
    scored = [episode for episode in episodes if episode.trains]
    won = Counter(episode.task.family for episode in scored if episode.success)
    played = Counter(episode.task.family for episode in scored)
    return {family: (won[family], count) for family, count in sorted(played.items())}
