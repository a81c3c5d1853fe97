"""`agent-rl sft`: the warm start (SFT) on episodes of the environment's expert, or of a file."""

from functools import partial
from pathlib import Path

from agent_rl.commands.stages.start import (
    locked_run,
    policy_before_training,
    set_unfinished_aside,
)
from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.files import whole_folder
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.loading import policy_loader
from agent_rl.runs.chat_files import read_chats
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trackers.packages import require_trackers
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
from agent_rl.training.own_episodes import own_samples, play_own_episodes
from agent_rl.training.own_template import with_own_template
from agent_rl.training.session import Session
from agent_rl.training.stopping import stops_on_signals
from agent_rl.training.warm_start import Lesson, expert_episodes, warm_start
from agent_rl.training.warm_start_checkpoint import (
    Position,
    delete_warm_start_checkpoint,
    load_position,
)
from agent_rl.training.written_episodes import episodes_of_file


def sft(config: Config, *, resume: bool = False) -> Path:
    """Warm-start the run's policy; returns the folder of the new policy.

    A warm start that was stopped before its first checkpoint begins again; its files are set aside.

    Args:
        resume: whether to go on from the checkpoint of an unfinished warm start, if there is one.

    Raises:
        ConfigError: there is no policy to start from, the run has a warm start already,
            `sft.episodes_file` cannot be read, or the package of a tracker is missing. Or there is
            a checkpoint, and `resume` is false or the config has changed.
    """
    require_trackers(config)
    source = policy_before_training(config)
    if config.sft.episodes_file:
        # Before any process starts: a damaged line is answered at once.
        read_chats(Path(config.sft.episodes_file).expanduser())
    run = RunLayout(Path(config.run_folder))
    with stops_on_signals(), locked_run(run):
        if run.sft.model.is_dir():
            raise ConfigError(
                f"{run.sft.folder}: holds a warm start already; go on with `agent-rl train "
                "CONFIG`, or delete the folder for `agent-rl sft` to make it again, or name "
                "another run_folder=..."
            )
        begun = load_position(run.sft, config)
        if begun is None:
            set_unfinished_aside(run.sft)
            say(f"warm start of {source}")
        elif resume:
            say(f"warm start of {source}, after {begun.taken:,} optimizer steps")
        else:
            raise ConfigError(
                f"{run.sft.folder}: holds an unfinished warm start, of {begun.taken:,} optimizer "
                "steps; resume it with `agent-rl sft CONFIG --resume`, or delete the folder, or "
                "name another run_folder=..."
            )
        with (
            RunFolder(run.sft.folder, config, resume_from=begun.taken if begun else None) as folder,
            Session(config, source, train=True) as session,
        ):
            session.require_trainable()
            # It starts while the expert plays.
            with LearnerProcesses(config.learner, config.serving) as learner:
                return sft_in(session, learner, folder, begun=begun)


def sft_in(
    session: Session,
    learner: LearnerProcesses,
    run: RunFolder,
    *,
    begun: Position | None = None,
) -> Path:
    """Warm-start the policy of an open session; returns the folder that it is saved in.

    Args:
        begun: where a warm start goes on whose checkpoint is in `run`; None begins one.
    """
    layout, config = run.layout, session.config
    if begun is not None:
        episodes = load_trajectories(layout.expert_episodes)
    else:
        from_file = bool(config.sft.episodes_file)
        episodes = (episodes_of_file if from_file else expert_episodes)(config, session)
        write_trajectories(layout.expert_episodes, episodes)
    session.sleep()
    revision, shared = config.model.revision_of(session.source), config.learner.ranks > 1
    load = with_own_template(
        policy_loader(session.source, None, revision=revision, shared=shared), config.prompt
    )

    def play_own(number: int) -> list[Lesson]:
        file = layout.own_episodes(number)
        if begun is not None and file.is_file():
            own = load_trajectories(file)
        else:
            session.serve(learner)
            own = play_own_episodes(config, session, number)
            write_trajectories(file, own)
            session.sleep()
        action_ids = session.renderer().action_ids
        most = config.sft.own_corrections
        return [partial(own_samples, episode, action_ids, most=most) for episode in own]

    warm_start(config, learner, load, episodes, run, play_own, begun=begun)
    with whole_folder(layout.model) as unfinished:
        learner.save_model(unfinished)
    delete_warm_start_checkpoint(layout)
    return layout.model
