"""`agent-rl sft`: the warm start (SFT) on episodes of the environment's expert."""

from pathlib import Path

from agent_rl.commands.stages.start import starting_policy
from agent_rl.config import Config
from agent_rl.display import say
from agent_rl.files import whole_folder
from agent_rl.policy.loading import save_policy
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.training.session import Session
from agent_rl.training.warm_start import expert_episodes, warm_start


def sft(config: Config) -> Path:
    """Warm-start the run's policy; returns the folder of the new policy."""
    source = starting_policy(config, trained=False)
    say(f"warm start of {source}")
    # Opened before the model is loaded: "holds a run already" is answered at once.
    run = RunFolder(RunLayout(Path(config.run_folder)).sft.folder, config)
    with Session(config, source) as session:
        return sft_in(session, run)


def sft_in(session: Session, run: RunFolder) -> Path:
    """Warm-start the policy of an open session; returns the folder that it is saved in."""
    layout = run.layout
    session.require_trainable()
    episodes = expert_episodes(session.config, session)
    write_trajectories(layout.expert_episodes, episodes)
    warm_start(session.config, session.model, episodes, run)
    run.close()
    with whole_folder(layout.model) as unfinished:
        save_policy(session.model, session.tokenizer, unfinished)
    return layout.model
