"""Scores of finished episodes: success per family and split, with its uncertainty.

A game counts by the mean over its repeats, and success is the mean over games. There is no best of
several repeats. Episodes that say nothing about the policy (`Trajectory.trains` is false) are in no
score: the environment failed, not the policy.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean

from agent_rl.evaluation.reading import ReadingScore
from agent_rl.evaluation.statistics import bootstrap_gap, interval_of_games, wilson_interval
from envs import TextEnv
from envs.alfworld import names
from envs.text_env import ReadObject
from rollouts import StopReason, Trajectory
from rollouts.scripted_episode import NO_POLICY

_GAP = (names.VALID_SEEN, names.VALID_UNSEEN)
"""The splits whose gap is reported in this order, if both were evaluated."""

Repeats = Sequence[Sequence[Trajectory]]
"""The episodes of some games: one sequence per repeat, at most one episode per game in each."""


@dataclass(frozen=True, kw_only=True)
class RepeatScore:
    """The score of one repeat: each game played once."""

    n: int
    """Games that were scored."""
    successes: int
    """Games that were won."""
    success: float
    """Share of games won, 0 to 1; 0 if there is none."""
    interval: tuple[float, float]
    """95 % Wilson interval of `success`."""

    @classmethod
    def of(cls, episodes: Sequence[Trajectory]) -> "RepeatScore":
        """Score the episodes of one repeat."""
        n = len(episodes)
        successes = sum(episode.success for episode in episodes)
        return cls(
            n=n,
            successes=successes,
            success=_ratio(successes, n),
            interval=wilson_interval(successes, n),
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of some games over all repeats; every number is 0 if no game was scored."""

    n: int
    """Games of which at least one repeat was scored."""
    repeats: int
    """How often each game was to be played."""
    successes: int
    """Episodes won, over all repeats."""
    success: float
    """Mean over games of the share of repeats won, 0 to 1."""
    interval: tuple[float, float]
    """95 % interval of `success`, see `statistics.interval_of_games`."""
    per_repeat: tuple[RepeatScore, ...]
    """Each repeat by itself, in the order of the repeats."""
    mean_turns: float
    """Turns per episode."""
    turns_to_success: float | None
    """Turns per won episode; None if none was won."""
    invalid_action_rate: float
    """Share of actions that could not be parsed or were not admissible."""
    tokens_per_episode: float | None
    """Tokens of a whole episode, prompts included; None for a player without a model."""
    agent_tokens_per_episode: float | None
    """Tokens that the policy sampled in an episode; None for a player without a model."""
    truncated_action_rate: float | None = None
    """Share of actions that their token limit cut off; None in reports of earlier versions."""

    @classmethod
    def of(cls, repeats: Repeats) -> "Score":
        """Score the episodes of all repeats."""
        per_repeat = tuple(RepeatScore.of(episodes) for episodes in repeats)
        episodes = list(chain.from_iterable(repeats))
        # Success is a mean over games and not over episodes. For example a game won in 2 of 3
        # repeats and one won in 1 of 2 (the third failed) give (2/3 + 1/2) / 2 = 7/12. The mean
        # over episodes is 3/5: a game whose environment fails more often would count less.
        outcomes = []
        for of_game in _by_game(repeats).values():
            outcomes.append([episode.success for episode in of_game])
        turns = sum(len(episode.actions) for episode in episodes)
        winning_turns = [len(episode.actions) for episode in episodes if episode.success]
        tokens = agent_tokens = None
        if _sampled(episodes):
            total = sum(len(episode.token_ids) for episode in episodes)
            sampled = sum(sum(episode.action_mask) for episode in episodes)
            tokens, agent_tokens = _ratio(total, len(episodes)), _ratio(sampled, len(episodes))
        return cls(
            n=len(outcomes),
            repeats=len(repeats),
            successes=sum(score.successes for score in per_repeat),
            success=_ratio(sum(map(fmean, outcomes)), len(outcomes)),
            interval=interval_of_games(outcomes),
            per_repeat=per_repeat,
            mean_turns=_ratio(turns, len(episodes)),
            turns_to_success=fmean(winning_turns) if winning_turns else None,
            invalid_action_rate=_ratio(sum(e.invalid_actions for e in episodes), turns),
            tokens_per_episode=tokens,
            agent_tokens_per_episode=agent_tokens,
            truncated_action_rate=_ratio(sum(e.truncated_actions for e in episodes), turns),
        )


@dataclass(frozen=True, kw_only=True)
class GameScore:
    """One game: the repeats of it that were scored, in the order of the repeats."""

    id: str
    """The task's id."""
    family: str
    """The task's family."""
    success: tuple[bool, ...]
    """Whether each repeat was won."""
    turns: tuple[int, ...]
    """Turns of each repeat."""

    @property
    def mean(self) -> float:
        """Share of its repeats that were won, 0 to 1."""
        return sum(self.success) / len(self.success)


@dataclass(frozen=True, kw_only=True)
class SplitReport:
    """The scores of one split: overall, by family, game by game."""

    overall: Score
    """All games."""
    families: dict[str, Score]
    """The games of each family, families by name."""
    games: tuple[GameScore, ...]
    """Games by id; a game without a scored repeat is left out."""
    stop_reasons: dict[str, int]
    """Scored episodes by the reason of their end."""
    failures: dict[str, int]
    """Episodes that are in no score, by the reason of their end."""
    reading: ReadingScore | None = None
    """Whether the commands go for what was read; None in reports of earlier versions."""

    @classmethod
    def of(cls, repeats: Repeats, read: ReadObject = TextEnv.object_named) -> "SplitReport":
        """Score all episodes of a split; `read` is the reader of their environment."""
        episodes = list(chain.from_iterable(repeats))
        scored = [[e for e in repeat if e.trains] for repeat in repeats]
        # The families of all episodes: one that was never scored is listed, with n = 0.
        families = {}
        for family in sorted({episode.task.family for episode in episodes}):
            of_family = [[e for e in repeat if e.task.family == family] for repeat in scored]
            families[family] = Score.of(of_family)
        games = []
        for game, of_game in _by_game(scored).items():
            games.append(
                GameScore(
                    id=game,
                    family=of_game[0].task.family,
                    success=tuple(episode.success for episode in of_game),
                    turns=tuple(len(episode.actions) for episode in of_game),
                )
            )
        return cls(
            overall=Score.of(scored),
            families=families,
            games=tuple(games),
            stop_reasons=_counts(e.stop_reason for e in episodes if e.trains),
            failures=_counts(e.stop_reason for e in episodes if not e.trains),
            reading=ReadingScore.of(chain.from_iterable(scored), read),
        )

    def outcomes(self, family: str | None = None) -> list[tuple[bool, ...]]:
        """The outcomes of each game, or of each game of one family."""
        return [game.success for game in self.games if family in (None, game.family)]


@dataclass(frozen=True, kw_only=True)
class GapScore:
    """Success on one split minus success on another."""

    difference: float
    """-1 to 1."""
    interval: tuple[float, float]
    """95 % interval of the bootstrap by game."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The first of two splits minus the second: the loss in rooms that a policy has not seen."""

    splits: tuple[str, str]
    """The names of the two splits."""
    overall: GapScore
    """All games."""
    families: dict[str, GapScore]
    """The families that both splits have."""

    @classmethod
    def of(cls, splits: Mapping[str, SplitReport]) -> "Gap | None":
        """ALFWorld's seen minus unseen, else the first two splits; None if there is only one."""
        if len(splits) < 2:
            return None
        first, second = _GAP if all(name in splits for name in _GAP) else tuple(splits)[:2]
        a, b = splits[first], splits[second]
        families = {}
        for family, score in a.families.items():
            if family in b.families:
                families[family] = GapScore(
                    difference=score.success - b.families[family].success,
                    interval=bootstrap_gap(a.outcomes(family), b.outcomes(family)),
                )
        overall = GapScore(
            difference=a.overall.success - b.overall.success,
            interval=bootstrap_gap(a.outcomes(), b.outcomes()),
        )
        return cls(splits=(first, second), overall=overall, families=families)


def _by_game(repeats: Repeats) -> dict[str, list[Trajectory]]:
    """The episodes of each game in the order of the repeats; games by id.

    Episodes end in any order, so sorting by id makes the same episodes give the same report.
    """
    games: dict[str, list[Trajectory]] = {}
    for episode in chain.from_iterable(repeats):
        games.setdefault(episode.task.id, []).append(episode)
    return dict(sorted(games.items()))


def _sampled(episodes: Sequence[Trajectory]) -> bool:
    """Whether a model played: the bytes of a scripted player are no tokens worth counting."""
    for episode in episodes:
        if any(turn.completion.policy_version != NO_POLICY for turn in episode.turns):
            return True
    return False


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else 0.0


def _counts(reasons: Iterable[StopReason]) -> dict[str, int]:
    counted = Counter(reason.value for reason in reasons)
    return dict(sorted(counted.items()))
