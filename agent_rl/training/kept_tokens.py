"""The numbers of a rollout step's trained tokens, on their way from the learner to the run folder.

The learner knows samples by their place in the update. Here they get the names of their episodes.
"""

import numpy as np

from agent_rl.config import Config
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.token_records import CLIPPED, COLUMNS, SampleTokens
from agent_rl.training.groups import PlayedGroups


def kept_tokens(
    config: Config, learner: LearnerProcesses, groups: PlayedGroups, step: int
) -> list[SampleTokens] | None:
    """Return the numbers of the last update's tokens; None if the run keeps none.

    Args:
        config: `train` says whether they are kept.
        learner: has just trained on the samples of `groups`.
        groups: of the rollout step.
        step: the rollout step, from 1.
    """
    if not config.train.keep_token_records or config.train.keep_trajectories == 0:
        return None
    tensors = learner.token_records()
    if not tensors:
        return []
    columns = {name: values.numpy() for name, values in tensors.items()}
    clipped = np.zeros(len(columns["sample"]), dtype=np.uint8)
    for number, bound in enumerate(CLIPPED):
        if bound:
            clipped[columns[f"clipped_{bound}"]] = number
    columns["clipped"] = clipped
    places = sample_places(groups, step)
    # The tokens are in the order of their samples.
    sample_of_token = columns["sample"]
    trained, begins = np.unique(sample_of_token, return_index=True)
    ends = [*begins[1:].tolist(), len(sample_of_token)]
    kept = []
    for sample, begin, end in zip(trained.tolist(), begins.tolist(), ends, strict=True):
        episode_id, part = places[sample]
        kept.append(
            SampleTokens(
                id=episode_id,
                part=part,
                optimizer_step=int(columns["optimizer_step"][begin]),
                numbers={name: columns[name][begin:end] for name in COLUMNS},
            )
        )
    return kept


def sample_places(groups: PlayedGroups, step: int) -> list[tuple[EpisodeId, int]]:
    """Return the episode and the part (from 1) of each sample of a step, in their order.

    It is that of `samples_from_group` for one kept group after the other.
    """
    number_of_group = {id(group): number for number, group in enumerate(groups.played, start=1)}
    places = []
    for group in groups.kept:
        for member, trajectory in enumerate(group.trajectories, start=1):
            if trajectory.trains:
                episode_id = EpisodeId(step, number_of_group[id(group)], member)
                for part in range(1, len(trajectory.parts) + 1):
                    places.append((episode_id, part))
    return places
