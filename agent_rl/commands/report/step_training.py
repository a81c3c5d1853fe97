"""What training made of the episodes of a rollout step: advantages, and numbers of tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_rl.commands.report.chunks import TurnTraining
from agent_rl.config import Config, ConfigError
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.token_records import Numbers, load_token_records, numbers_of_turns
from rollouts import Trajectory, TrajectoryGroup

Groups = Sequence[Mapping[EpisodeId, Trajectory]]
"""The groups of a rollout step, with the names of their episodes."""
_OfTurns = Sequence[Numbers | None]
_OfGroup = Sequence[Sequence[float] | None]
"""For each episode the advantages of its turns; None if it does not train."""


@dataclass(frozen=True, kw_only=True)
class GroupTraining:
    """What training made of a group."""

    of_episodes: Sequence[Sequence[TurnTraining]]
    """For each episode and turn."""
    dropped: bool
    """Whether `train.drop_groups` left the group out."""


def training_of_step(
    groups: Groups, step: int, config: Config, records: Path | None
) -> tuple[list[GroupTraining], str]:
    """Work out what training made of a step's groups.

    Args:
        groups: the groups.
        step: the rollout step.
        config: of the run.
        records: the file of the numbers of the trained tokens, which may be missing.

    Returns:
        It for each group, and a note if the records are damaged; else it is empty.
    """
    numbers, note = _token_numbers(groups, step, records)
    found = []
    for group, advantages in zip(groups, _advantages(groups, config), strict=True):
        of_members = [None] * len(group) if advantages is None else advantages
        of_episodes = []
        for (name, episode), of_turns in zip(group.items(), of_members, strict=True):
            own = None if numbers is None else numbers[name]
            of_episodes.append(_training(episode, of_turns, own, config))
        found.append(GroupTraining(of_episodes=of_episodes, dropped=advantages is None))
    return found, note


def _token_numbers(
    groups: Groups, step: int, records: Path | None
) -> tuple[dict[EpisodeId, _OfTurns] | None, str]:
    """For each episode and turn the numbers of its tokens; None and a note if they are damaged."""
    if records is None or not records.is_file():
        return None, ""
    try:
        of_parts = load_token_records(records, step)
        numbers: dict[EpisodeId, _OfTurns] = {}
        for group in groups:
            for name, episode in group.items():
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


def _advantages(groups: Groups, config: Config) -> list[_OfGroup | None]:
    """For each group the advantages of its episodes' turns; None for one that was left out."""
    # Imported here: they load torch.
    from agent_rl.learner.samples import turn_advantages
    from agent_rl.training.groups import chosen_groups

    played = []
    for group in groups:
        episodes = tuple(group.values())
        played.append(TrajectoryGroup(task=episodes[0].task, trajectories=episodes))
    kept = {id(group) for group in chosen_groups(played, config.train).kept}
    found: list[_OfGroup | None] = []
    for each in played:
        found.append(turn_advantages(each, config.learner) if id(each) in kept else None)
    return found
