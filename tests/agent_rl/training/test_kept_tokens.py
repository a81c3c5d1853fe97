from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from agent_rl.learner.processes import LearnerProcesses
from agent_rl.runs.episode_ids import EpisodeId
from agent_rl.runs.token_records import COLUMNS, load_token_records
from agent_rl.training.groups import PlayedGroups
from agent_rl.training.kept_tokens import kept_tokens, sample_places
from rollouts import StopReason
from tests.builders.episodes import group, trajectory, turn
from tests.builders.scripted_session import loop_config, scripted_loop

FAILED = trajectory(stop_reason=StopReason.ENV_ERROR, error="no")
PARTS = trajectory(turn(), turn(new_prompt=True))
DROPPED, KEPT = group(trajectory(turn())), group(FAILED, PARTS, trajectory(turn()))
GROUPS = PlayedGroups(played=[DROPPED, KEPT], kept=[KEPT])


def test_dropped_groups_and_failed_members_keep_their_numbers() -> None:
    assert [(str(name), part) for name, part in sample_places(GROUPS, 4)] == [
        ("4/2/2", 1),
        ("4/2/2", 2),
        ("4/2/3", 1),
    ]


def test_tokens_get_the_names_of_their_episodes(tmp_path: Path) -> None:
    # The second part of member 2 and member 3 were trained; the first part was not.
    tensors: dict[str, Any] = {name: torch.zeros(3) for name in COLUMNS}
    tensors["sample"], tensors["optimizer_step"] = torch.tensor([1, 1, 2]), torch.tensor([2, 2, 1])
    for bound, clipped in (("low", [1, 0, 0]), ("high", [0, 0, 1]), ("dual", [0, 0, 0])):
        tensors[f"clipped_{bound}"] = torch.tensor(clipped, dtype=torch.bool)
    learner = cast("LearnerProcesses", SimpleNamespace(token_records=lambda: tensors))
    config = loop_config(tmp_path, keep_token_records=True)
    first, second = kept_tokens(config, learner, GROUPS, 4) or []
    assert (first.id, first.part, first.optimizer_step) == (EpisodeId(4, 2, 2), 2, 2)
    assert (second.id, second.part, second.optimizer_step) == (EpisodeId(4, 2, 3), 1, 1)
    assert first.numbers["clipped"].tolist() == [1, 0]
    assert second.numbers["clipped"].tolist() == [2]
    assert kept_tokens(loop_config(tmp_path), learner, GROUPS, 4) is None


def test_they_are_kept_as_long_as_their_episodes(tmp_path: Path) -> None:
    loop, _ = scripted_loop(tmp_path, keep_token_records=True, keep_trajectories=2)
    for _ in range(3):
        loop.rollout_step()
    loop.close()
    layout = loop.run.layout
    assert sorted(step for step, _ in layout.all_token_records()) == [2, 3]
    assert sorted(step for step, _ in layout.all_step_episodes()) == [2, 3]
    assert [*load_token_records(layout.token_records(3), 3)] == [
        EpisodeId(3, 1, 1),
        EpisodeId(3, 1, 2),
    ]
    # A run that goes on without records leaves none of a step that it does again.
    loop.run.episodes.__init__(layout)  # type: ignore[misc]
    loop.run.write_groups(3, [KEPT], keep=2)
    loop.run.episodes.close()
    assert [step for step, _ in layout.all_token_records()] == [2]
