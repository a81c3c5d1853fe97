"""`agent-rl train`: reinforcement learning."""

from collections.abc import Callable
from pathlib import Path

from transformers import PreTrainedModel

from agent_rl.commands.stages.start import (
    checkpoint_to_resume,
    locked_run,
    set_unfinished_aside,
    starting_policy,
)
from agent_rl.config import Config
from agent_rl.display import say
from agent_rl.evaluation.playing import set_aside_after
from agent_rl.policy.loading import load_policy
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout
from agent_rl.training.loop import TrainingLoop
from agent_rl.training.resuming import check_resumable
from agent_rl.training.session import Session
from agent_rl.training.stopping import stops_on_signals


def train(
    config: Config, *, resume: bool = False, then: Callable[[Session, str], None] | None = None
) -> Path:
    """Train the run's policy, from the start or from its newest checkpoint; returns the last one.

    A run that was stopped before its first checkpoint starts again; its files are set aside.

    Args:
        resume: continue after the newest checkpoint, or start if there is none.
        then: is called at the end with the session, whose engine serves the trained policy, and
            that policy's path. It evaluates the last rollout step in place of the loop.

    Raises:
        ConfigError: there is no policy to start from, a run already, or a checkpoint that is
            damaged or of another run; or another process trains in the folder.
        SystemExit: a signal stopped the run, see `stops_on_signals`.
    """
    run = RunLayout(Path(config.run_folder))
    with stops_on_signals(), locked_run(run):
        checkpoint = checkpoint_to_resume(run.train, resume=resume)
        if checkpoint is None:
            source = starting_policy(config, trained=False)
            set_unfinished_aside(run.train)
        else:
            check_resumable(checkpoint, config)
            source = str(checkpoint / CHECKPOINT_MODEL)
        return _train(config, run, source, checkpoint, then)


def _train(
    config: Config,
    run: RunLayout,
    source: str,
    checkpoint: Path | None,
    then: Callable[[Session, str], None] | None,
) -> Path:
    """As `train`, in a run folder that is locked and ready."""
    say(f"training {source} with {config.learner.objective}")
    with Session(config, source, train=True, resume=checkpoint is not None) as session:
        loop = TrainingLoop(
            config,
            session,
            run.train.folder,
            checkpoint=checkpoint,
            reference=reference_policy(config),
        )
        try:
            # Steps after the checkpoint are repeated, so reports on them are of other policies.
            set_aside_after(run.folder, loop.step)
            newest = loop.train(evaluate_last=then is None)
        finally:
            loop.close()
        if then is not None:
            then(session, str(newest / CHECKPOINT_MODEL))
    return newest


def reference_policy(config: Config) -> PreTrainedModel | None:
    """The policy before reinforcement learning, which `learner.beta` compares with.

    None if `learner.beta` is 0. None for LoRA too: the reference is then the trained model with its
    adapter switched off.
    """
    if not config.learner.beta or config.model.lora is not None:
        return None
    source = starting_policy(config, trained=False)
    model, _ = load_policy(source, revision=config.model.revision_of(source))
    return model
