"""A run folder with stored episodes: two steps of two groups, an expert's and an evaluation's."""

from pathlib import Path

from agent_rl.evaluation.episodes import repeat_file
from agent_rl.runs.episode_writer import EpisodeWriter
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import write_trajectories
from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.scripted_episode import NO_POLICY
from tests.builders.episodes import group, trajectory, turn
from tests.builders.runs import write_run

LOOK = Task(env_id="e", split="train", family="look", id="look1")
PICK = Task(env_id="e", split="train", family="pick", id="pick1")


def stored_run(folder: Path) -> RunLayout:
    """Each group has an episode that won and one that lost; in step 2 one more could not be played.

    The winner's first action is refused.
    """
    run = RunLayout(write_run(folder, prompt={"system": "Answer with one command."}))
    run.train.trajectories.mkdir()
    writer = EpisodeWriter(run.train)
    for step in (1, 2):
        broken = trajectory(task=PICK, stop_reason=StopReason.ENV_ERROR, error="reset: no")
        last = [broken] if step == 2 else []
        groups = [group(won(LOOK), lost(LOOK)), group(won(PICK), lost(PICK), *last)]
        writer.write(step, groups, None)
    writer.close()
    write_trajectories(run.sft.expert_episodes, [won(LOOK, policy_version=NO_POLICY)])
    (run.sft.folder / "config.yaml").write_text(run.train.config_file.read_text())
    write_trajectories(
        repeat_file(run.evaluations / "step-000002-valid_seen", 0),
        [won(Task(env_id="e", split="valid_seen", family="look", id="look9"))],
    )
    return run


def won(task: Task, *, policy_version: int = 0) -> Trajectory:
    """Two turns: a command that was refused, and one that won."""
    return trajectory(
        turn(
            (1, 5),
            (7, 2),
            observation="You see a desk 1.",
            text="fly",
            command="fly",
            admissible=False,
            policy_version=policy_version,
        ),
        turn(
            (6,),
            (8, 9, 2),
            observation="Nothing happens.",
            text="take mug 3",
            command="take mug 3",
            reward=1.0,
            policy_version=policy_version,
        ),
        task=task,
        final_observation="You won.",
    )


def lost(task: Task) -> Trajectory:
    """One turn that led nowhere."""
    only = turn((1, 5), (3, 2), observation="You see a desk 1.", text="look", command="look")
    return trajectory(only, task=task, stop_reason=StopReason.MAX_TURNS)
