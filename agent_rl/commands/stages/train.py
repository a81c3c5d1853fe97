"""`agent-rl train`: reinforcement learning."""

from collections.abc import Callable
from pathlib import Path

from agent_rl.commands.stages.start import (
    checkpoint_to_resume,
    locked_run,
    set_unfinished_aside,
    starting_policy,
)
from agent_rl.config import Config
from agent_rl.display import say
from agent_rl.evaluation.playing import set_aside_after
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.policy.folder import is_adapter
from agent_rl.policy.loading import policy_loader
from agent_rl.runs.ending import recorded_end
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout
from agent_rl.runs.trackers.packages import require_trackers
from agent_rl.training.loop import TrainingLoop, learner_context
from agent_rl.training.own_template import with_own_template
from agent_rl.training.resuming import check_resumable
from agent_rl.training.session import Session
from agent_rl.training.stopping import stopped_by, stops_on_signals
from rollouts.processes.ray_failures import death_of
from rollouts.processes.ray_processes import check_ray, ray_is_gone


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
            damaged or of another run; or another process trains in the folder, or the package of a
            tracker is missing.
        SystemExit: a signal stopped the run, see `stops_on_signals`.
    """
    require_trackers(config)
    run = RunLayout(Path(config.run_folder))
    with stops_on_signals(), locked_run(run):
        checkpoint = checkpoint_to_resume(run.train, resume=resume)
        if checkpoint is None:
            source = starting_policy(config, trained=False)
            set_unfinished_aside(run.train)
        else:
            check_resumable(checkpoint, config)
            source = str(checkpoint / CHECKPOINT_MODEL)
        with recorded_end(run, stopped_by):
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
    deaths = _Deaths(config, run, checkpoint)
    with Session(config, source, train=True) as session:
        session.require_trainable()
        while True:
            try:
                return _train_in(session, run, source, deaths, then)
            except Exception as error:
                # Engines and workers are replaced by the pool, so this is the learner's death.
                death = death_of(error)
                if death is not None:
                    check_ray()
                if not deaths.replaced(error):
                    raise
                say(f"the learner is replaced, and training goes on: {death}")
            if deaths.checkpoint is None:
                set_unfinished_aside(run.train)
            else:
                source = str(deaths.checkpoint / CHECKPOINT_MODEL)


class _Deaths:
    """The deaths of the learner since the newest checkpoint, which say whether it is replaced."""

    checkpoint: Path | None
    """Where training begins, or goes on after the last death."""

    def __init__(self, config: Config, run: RunLayout, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self._most, self._stage = config.learner.max_restarts, run.train
        self._count = 0
        self._last: BaseException | None = None
        self._replaced = False

    def replaced(self, error: BaseException) -> bool:
        """Whether the learner is replaced after an error; the same one may be asked about again."""
        if error is not self._last:
            self._last, self._replaced = error, self._judged(error)
        return self._replaced

    def _judged(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or death_of(error) is None:
            return False
        before, whole = self.checkpoint, self._stage.whole_checkpoints()
        self.checkpoint = whole[-1] if whole else None
        self._count = 1 if self.checkpoint != before else self._count + 1
        return self._count <= self._most and not stopped_by() and not ray_is_gone()


def _train_in(
    session: Session,
    run: RunLayout,
    source: str,
    deaths: _Deaths,
    then: Callable[[Session, str], None] | None,
) -> Path:
    """Train with learner processes of its own, in a session that goes on if they die."""
    config, checkpoint = session.config, deaths.checkpoint
    with LearnerProcesses(config.learner, config.serving) as learner:
        open_to_train(learner, config, source, run, resume=checkpoint is not None)
        session.serve(learner)
        loop = TrainingLoop(config, session, run.train.folder, learner, checkpoint=checkpoint)
        try:
            # Steps after the checkpoint are repeated, so reports on them are of other policies.
            set_aside_after(run.folder, loop.step)
            newest = loop.train(evaluate_last=then is None, goes_on=deaths.replaced)
        finally:
            loop.close()
        if then is not None:
            then(session, str(newest / CHECKPOINT_MODEL))
    return newest


def open_to_train(
    learner: LearnerProcesses, config: Config, source: str, run: RunLayout, *, resume: bool = False
) -> None:
    """Let the learner load the policy at `source`, and the one that `learner.beta` compares with.

    There is no such reference if `learner.beta` is 0. Nor for a new adapter: it is then the trained
    model with its adapter switched off.

    Args:
        resume: whether to load the adapter at `source` instead of a new one.
    """
    revision, lora = config.model.revision_of(source), config.model.lora
    shared, reference = config.learner.ranks > 1, None
    first = starting_policy(config, trained=False) if config.learner.beta else ""
    if first and (lora is None or is_adapter(Path(first).expanduser())):
        of_first = config.model.revision_of(first)
        reference = policy_loader(first, None, revision=of_first, shared=shared)
    load = policy_loader(
        source, lora, revision=revision, resume=resume, seed=config.seed, shared=shared
    )
    learner.open(
        with_own_template(load, config.prompt),
        config.learner,
        learner_context(config, run.train.folder),
        load_reference=reference,
    )
