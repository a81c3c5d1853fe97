"""The policy's own episodes in a warm start, relabelled by the expert.

A policy that has seen the expert's episodes alone does not know what to do after its own mistakes.
So it plays, and the expert says in each turn what it would have done (DAgger: Ross, Gordon and
Bagnell 2011). With `|` between turns, and the trained tokens in capitals:

    the policy   You see a shelf 1. > go to desk 1   | Nothing happens. > go to shelf 1
    the expert                        go to shelf 1                       go to shelf 1

    samples      You see a shelf 1. > GO TO SHELF 1
                 You see a shelf 1. > go to desk 1     Nothing happens. > GO TO SHELF 1

A turn in which both agree is trained where it stands. So an episode has a sample for each turn in
which they differ, and one more. All share their beginnings, which go through the model once.
"""

from collections.abc import Callable, Sequence

from agent_rl.config import Config, ConfigError
from agent_rl.display import percent, say
from agent_rl.learner.samples import TrainingSample, supervised_sample
from agent_rl.tasks import repeat_evenly, training_tasks
from agent_rl.training.session import Session
from rollouts import Trajectory
from rollouts.seeds import derive_seed
from rollouts.workers.failed_tasks import FailedTasks

ActionIds = Callable[[str], tuple[int, ...]]
"""Gives the ids of an action that means a command, as `Renderer.action_ids` does."""


def play_own_episodes(config: Config, session: Session, number: int) -> list[Trajectory]:
    """Let the served policy play, advised by the expert; returns the episodes that train.

    Args:
        number: of the round, from 1.

    Raises:
        ConfigError: the expert advised nothing in any of them.
        ValueError: more tasks than `workers.max_failed_share` could not be played.
    """
    seed = derive_seed(config.seed, "own episodes", number)
    tasks = repeat_evenly(training_tasks(config, session.tasks), config.sft.own_episodes, seed)
    groups = session.play(
        tasks,
        f"own episodes, round {number}",
        group_size=1,
        temperature=config.train.temperature,
        seed=seed,
        advised=True,
        corrections=config.sft.own_corrections,
    )
    played = [group.trajectories[0] for group in groups]
    failed = FailedTasks(config.env.id, most=config.workers.max_failed_share, tasks=len({*tasks}))
    failed.add(played)
    failed.check()
    if failed.summary():
        say(failed.summary())
    own = [episode for episode in played if episode.trains]
    advised, agreed = agreement(own)
    if not advised:
        raise ConfigError(
            f"env {config.env.id}: its expert advised nothing in {len(own)} episodes of the "
            "policy; set sft.own_rounds: 0"
        )
    won = sum(episode.success for episode in own)
    ended = ""
    if config.sft.own_corrections:
        ended = f", each with at most {config.sft.own_corrections} turns to correct"
    say(
        f"own episodes, round {number}: won {won} of {len(own)}{ended}; in "
        f"{percent(agreed / advised)} % of {advised:,} turns the policy did what the expert advised"
    )
    return own


def agreement(episodes: Sequence[Trajectory]) -> tuple[int, int]:
    """The number of turns with advice, and of those in which the policy did as advised."""
    advised = agreed = 0
    for episode in episodes:
        for turn in episode.actions:
            if turn.advice is not None:
                advised += 1
                agreed += turn.action.said == turn.advice
    return advised, agreed


def own_samples(
    trajectory: Trajectory, action_ids: ActionIds, *, most: int | None = None
) -> list[TrainingSample]:
    """The samples of an episode of the policy, with the expert's commands as targets.

    Turns without advice are not trained.

    Args:
        action_ids: gives the ids of a command.
        most: how many turns are corrected; nothing after them is trained. None is all.
    """
    samples: list[TrainingSample] = []
    corrected = 0
    for part in trajectory.parts:
        ids: list[int] = []
        mask: list[bool] = []
        for turn in part.turns:
            if corrected == most:
                break
            ids += turn.prompt_token_ids
            mask += [False] * len(turn.prompt_token_ids)
            target = () if turn.advice is None else action_ids(turn.advice)
            answer = turn.completion.token_ids
            agrees = answer == target
            if target and not agrees:
                whole = [False] * len(ids) + [True] * len(target)
                samples.append(supervised_sample([*ids, *target], whole))
                corrected += 1
            ids += answer
            mask += [agrees] * len(answer)
        if any(mask):
            samples.append(supervised_sample(ids, mask))
    return samples
