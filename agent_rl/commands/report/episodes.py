"""The episodes of a run for the page: their index, and chunks with all that they hold."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent_rl.commands.report.chunks import Chunk, TurnTraining
from agent_rl.commands.report.rooms import room_of
from agent_rl.config import Config, ConfigError
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.layout import StageLayout
from agent_rl.runs.token_records import Numbers, load_token_records, numbers_of_turns
from agent_rl.runs.trajectories import load_step_episodes
from rollouts import Trajectory, TrajectoryGroup

CHUNK_EPISODES = 192
"""A chunk ends with the group that reaches so many episodes, and at the end of a step."""
_BASE64 = 4 / 3
COLUMNS = (
    "id",
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


@dataclass(frozen=True, kw_only=True)
class StepPages:
    """The episodes of one rollout step, ready for the page."""

    rows: Sequence[Sequence[Any]]
    """A row of `COLUMNS` for each episode in the page; `chunk` counts from the step's first."""
    chunks: Sequence[str]
    """The packed chunks."""
    played: int
    """All episodes of the step, with those that are not in the page."""
    families: Mapping[str, tuple[int, int]]
    """Successes and scored episodes by family, of all episodes of the step."""
    token_ids: frozenset[int]
    """The ids that occur in the page's episodes."""
    note: str = ""
    """Why the numbers of its tokens are missing though the run kept them; else empty."""


@dataclass(kw_only=True)
class RunPages:
    """The episodes of one run, ready for the page."""

    steps: dict[int, StepPages] = field(default_factory=dict)
    """By rollout step."""
    notes: list[str] = field(default_factory=list)
    """Sentences on files that could not be read."""

    @property
    def played(self) -> int:
        """All episodes in the files."""
        return sum(step.played for step in self.steps.values())

    @property
    def shown(self) -> int:
        """The episodes in the page."""
        return sum(len(step.rows) for step in self.steps.values())


Done = Callable[[str], None]
"""Is called after each file."""
_Mark = tuple[Path, int, int] | None
_Key = tuple[_Mark, _Mark, float]


class EpisodeReader:
    """Reads episodes, and remembers the steps that it has read: `--watch` reads new ones only."""

    def __init__(self) -> None:
        self._known: dict[_Key, StepPages] = {}

    def read(self, training: StageLayout, config: Config, *, share: float, done: Done) -> RunPages:
        """Read all episodes of a run.

        Args:
            training: the files of its training.
            config: its config, for the advantages.
            share: the part of the groups that come into the page.
            done: is called after each file.
        """
        pages = RunPages()
        for step, path in sorted(training.all_step_episodes()):
            try:
                records = training.token_records(step)
                key = (_mark(path), _mark(records) if records.is_file() else None, share)
                if key not in self._known:
                    self._known[key] = step_pages(path, step, config, share=share, records=records)
                pages.steps[step] = self._known[key]
                if pages.steps[step].note:
                    pages.notes.append(pages.steps[step].note)
            except FileNotFoundError:
                continue  # A run that is going on deletes its oldest files.
            except ConfigError as error:
                pages.notes.append(str(error))
            done(path.name)
        return pages


def _mark(path: Path) -> tuple[Path, int, int]:
    """Changes with every change of a file."""
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def step_pages(
    path: Path, step: int, config: Config, *, share: float = 1.0, records: Path | None = None
) -> StepPages:
    """Read the episodes of one rollout step.

    Args:
        path: their file.
        step: the rollout step.
        config: the run's config, for the advantages.
        share: the part of the groups that come into the page: at least the first one.
        records: the file of the numbers of their trained tokens, which may be missing. A damaged
            one is told in `StepPages.note`.

    Raises:
        ConfigError: the file of episodes is damaged.
    """
    named = load_step_episodes(path, step)
    groups: dict[int, dict[EpisodeId, Trajectory]] = {}
    for name, episode in named.items():
        groups.setdefault(name.group, {})[name] = episode
    numbers, note = _token_numbers(named, step, records)
    trained = _advantages(list(groups.values()), config)
    rows: list[list[Any]] = []
    token_ids: set[int] = set()
    chunks: list[str] = []
    chunk = Chunk()
    for number, (group, advantages) in enumerate(zip(groups.values(), trained, strict=True)):
        # Evenly over the groups: with a share of a third, the first, the fourth and so on.
        if number and int(number * share) == int((number - 1) * share):
            continue
        for (name, episode), of_turns in zip(group.items(), advantages.of_turns, strict=True):
            place = [len(chunks), len(chunk)]
            rows.append([*_row(name, episode, of_turns, advantages.dropped), *place])
            own = None if numbers is None else numbers[name]
            training = _training(episode, of_turns, own, config)
            chunk.add(episode, room_of(episode), training)
            token_ids.update(episode.token_ids)
        if len(chunk) >= CHUNK_EPISODES:
            chunks.append(chunk.packed())
            chunk = Chunk()
    if len(chunk):
        chunks.append(chunk.packed())
    return StepPages(
        rows=rows,
        chunks=chunks,
        played=len(named),
        families=_families(list(named.values())),
        token_ids=frozenset(token_ids),
        note=note,
    )


_OfTurns = Sequence[Numbers | None]


def _token_numbers(
    named: Mapping[EpisodeId, Trajectory], step: int, records: Path | None
) -> tuple[dict[EpisodeId, _OfTurns] | None, str]:
    """For each episode and turn the numbers of its tokens; None and a note if they are damaged."""
    if records is None or not records.is_file():
        return None, ""
    try:
        of_parts = load_token_records(records, step)
        numbers: dict[EpisodeId, _OfTurns] = {}
        for name, episode in named.items():
            numbers[name] = numbers_of_turns(episode, of_parts.get(name, ()), records)
        return numbers, ""
    except ConfigError as error:
        return None, f"the tokens of step {step} are shown without their numbers: {error}"


def _training(
    episode: Trajectory,
    advantages: Sequence[float] | None,
    numbers: _OfTurns | None,
    config: Config,
) -> list[TurnTraining]:
    """What training made of each turn of an episode.

    Args:
        episode: the episode.
        advantages: of its turns; None if it does not train.
        numbers: of its turns' tokens. They tell which turns went through the learner. Without them
            (None), the advantages tell: a part in which all are 0 has no gradient.
        config: of the run.
    """
    learner = config.learner
    every_part = bool(learner.beta or learner.entropy_bonus)
    turns: list[TurnTraining] = []
    for part in episode.parts:
        own = range(len(turns), len(turns) + len(part.turns))
        moves = advantages is not None and (every_part or any(advantages[i] for i in own))
        for index in own:
            tokens = None if numbers is None else numbers[index]
            turns.append(
                TurnTraining(
                    advantage=None if advantages is None else advantages[index],
                    trained=moves if numbers is None else tokens is not None,
                    tokens=tokens,
                )
            )
    return turns


def share_that_fits(runs: Sequence[tuple[StageLayout, Config]], most_mb: float) -> float:
    """The part of the groups whose episodes fit into `most_mb` megabytes of the page.

    The newest file of each run tells how large its episodes become in the page.
    """
    needed = 0.0
    for training, config in runs:
        files = sorted(training.all_step_episodes())
        on_disk = sum(path.stat().st_size for _, path in files)
        for step, path in reversed(files):
            try:
                records = training.token_records(step)
                chunks = step_pages(path, step, config, records=records).chunks
            except ConfigError:
                continue
            needed += on_disk * sum(map(len, chunks)) / max(path.stat().st_size, 1)
            break
    return min(1.0, most_mb * 1e6 / needed) if needed else 1.0


@dataclass(frozen=True, kw_only=True)
class _GroupAdvantages:
    of_turns: Sequence[Sequence[float] | None]
    """For each episode the advantages of its turns; None if it does not train."""
    dropped: bool
    """Whether `train.drop_groups` left the group out."""


def _advantages(
    groups: Sequence[Mapping[EpisodeId, Trajectory]], config: Config
) -> list[_GroupAdvantages]:
    """The advantages of a step's groups, as the training computed them."""
    # Imported here: they load torch.
    from agent_rl.learner.samples import group_samples
    from agent_rl.training.groups import chosen_groups

    played = []
    for group in groups:
        episodes = tuple(group.values())
        played.append(TrajectoryGroup(task=episodes[0].task, trajectories=episodes))
    kept = {id(group) for group in chosen_groups(played, config.train).kept}
    result = []
    for each in played:
        samples = group_samples(each, config.learner) if id(each) in kept else []
        of_turns: list[list[float] | None] = []
        for episode in each.trajectories:
            if not (samples and episode.trains):
                of_turns.append(None)
                continue
            values: list[float] = []
            for _ in episode.parts:
                values += samples.pop(0).advantages
            of_turns.append(values)
        dropped = id(each) not in kept
        result.append(_GroupAdvantages(of_turns=of_turns, dropped=dropped))
    return result


def _row(
    name: EpisodeId, episode: Trajectory, advantages: Sequence[float] | None, dropped: bool
) -> Iterator[Any]:
    """The cells of an episode's row, up to its place in a chunk."""
    yield str(name)
    yield name.step
    yield episode.task.family
    yield episode.task.id
    yield episode.stop_reason.value
    yield round(episode.episode_return, 4)
    yield len(episode.actions)
    yield episode.invalid_actions
    yield None if advantages is None else round(sum(advantages) / len(advantages), 4)
    if not episode.trains:
        yield "not scored"
    elif dropped:
        yield "group dropped"
    elif advantages is None or not any(advantages):
        yield "advantage 0"
    else:
        yield "trained"


def _families(episodes: Sequence[Trajectory]) -> dict[str, tuple[int, int]]:
    scored = [episode for episode in episodes if episode.trains]
    won = Counter(episode.task.family for episode in scored if episode.success)
    played = Counter(episode.task.family for episode in scored)
    return {family: (won[family], count) for family, count in sorted(played.items())}
