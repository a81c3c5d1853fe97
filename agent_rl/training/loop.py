"""The training loop: sample tasks, play groups, update, sync, log. It reads as the algorithm."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

from agent_rl.config import Config, ConfigError, dump_config
from agent_rl.display import Column, StepRows, progress, say
from agent_rl.evaluation.tables import show
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import LearnerProcesses
from agent_rl.learner.samples import TrainingSample, group_samples
from agent_rl.runs.checkpoint import (
    Snapshot,
    load_checkpoint,
    random_state,
    save_checkpoint,
    way_out,
)
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import CHECKPOINT_STATE, StageLayout
from agent_rl.runs.token_records import SampleTokens
from agent_rl.tasks import training_tasks
from agent_rl.training.group_stream import GroupStream
from agent_rl.training.groups import PlayedGroups
from agent_rl.training.kept_tokens import kept_tokens
from agent_rl.training.metrics import StepClock, step_metrics
from agent_rl.training.pool import advance_per_episode
from agent_rl.training.session import Session
from agent_rl.training.stopping import raise_if_stopped, say_stopped, stopped_by, whole_work
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import Trajectory, TrajectoryGroup
from rollouts.processes.ray_failures import death_of
from rollouts.seeds import derive_seed
from rollouts.workers.failed_tasks import FailedTasks
from rollouts.workers.stream import OnEpisode
from rollouts.workers.usage import Usage

COLUMNS = (
    Column("rollout/success", "success", ".1%"),
    Column("rollout/return", "return", ".2f"),
    Column("rollout/turns", "turns", ".1f"),
    Column("rollout/invalid_actions", "invalid", ".1%"),
    Column("learner/loss", "loss", ".4f"),
    Column("learner/entropy", "entropy", ".3f"),
    Column("time/tokens_per_second", "tokens/s", ",.0f"),
    Column("time/seconds", "s", ".1f"),
    Column("time/rollout_share", "rollout", ".0%"),
    Column("time/learner_share", "learn", ".0%"),
    Column("engine/idle_share", "idle", ".0%"),
)
"""The columns printed for each rollout step."""


def learner_context(config: Config, folder: Path) -> LearnerContext:
    """What the learner has to know of a run in `folder`, `RUN/train`, besides its settings."""
    return LearnerContext(
        total_steps=config.train.rollout_steps * config.learner.optimizer_steps,
        temperature=config.train.temperature,
        seed=config.seed,
        most_agent_tokens=config.episode.max_turns * config.episode.max_sampled_tokens,
        failure_folder=StageLayout(folder).not_finite,
        keep_token_records=config.train.keep_token_records,
    )


class TrainingLoop:
    """Trains the policy of a session, and writes the run to a folder."""

    def __init__(
        self,
        config: Config,
        session: Session,
        folder: Path,
        learner: LearnerProcesses,
        *,
        checkpoint: Path | None = None,
    ) -> None:
        """Start or resume a run.

        Args:
            config: `learner` and `train` say how to train.
            session: serves the learner's weights.
            folder: the stage's folder, `RUN/train`.
            learner: opened with `learner_context`, on `checkpoint`'s model if there is one. The
                caller closes it.
            checkpoint: the checkpoint to resume after; None starts a new run.

        Raises:
            ConfigError: without `checkpoint`, the folder holds a run already.
            ValueError: the checkpoint is damaged, or belongs to other tasks or another seed.
        """
        self.config = config
        self.session = session
        self.step = 0
        self.learner = learner
        self.saved: Path | None = checkpoint
        """The checkpoint of the newest step that has one."""
        tasks = training_tasks(config, session.tasks)
        self.sampler = TaskSampler(tasks, config.seed)
        self.failed = FailedTasks(
            config.env.id, most=config.workers.max_failed_share, tasks=len(tasks)
        )
        first = 0 if checkpoint is None else self._restore(checkpoint)
        self.groups = GroupStream(
            self._begin_group, self.sampler, config.train, self.failed, first=first
        )
        # After the checkpoint is restored: the folder cuts the metrics of later steps, which were
        # logged before the kill and are repeated now.
        self.run = RunFolder(folder, config, resume_from=self.step if checkpoint else None)
        self.clock = StepClock()
        self._usage = Usage()
        """What the engine had done at the last line of metrics, or before the first step."""
        self._end_step()

    def train(
        self,
        *,
        evaluate_last: bool = True,
        goes_on: Callable[[BaseException], bool] = lambda error: False,
    ) -> Path:
        """Run the remaining rollout steps, with checkpoints and evaluations in between.

        If a signal or an error ends the run, the last whole step is saved first.

        Args:
            evaluate_last: whether to evaluate after the last step too. A caller that evaluates the
                result itself says no.
            goes_on: whether the caller goes on after an error, from the newest checkpoint. Then
                nothing is saved, and nothing is said of an end.

        Returns:
            The checkpoint of the last step.
        """
        try:
            self._train(evaluate_last=evaluate_last)
        except BaseException as error:
            if not goes_on(error):
                self._keep_progress()
            raise
        assert self.saved is not None, "the last step is always saved"
        return self.saved

    def _train(self, *, evaluate_last: bool) -> None:
        settings = self.config.train
        if self.step >= settings.rollout_steps:
            say(
                f"all {settings.rollout_steps} rollout steps are done; a higher "
                "train.rollout_steps goes on"
            )
        else:
            self._begin_clock()
        rows = StepRows(COLUMNS)
        last = settings.rollout_steps if evaluate_last else settings.rollout_steps - 1
        # A checkpoint is written before the evaluation of its step. A run that was killed in that
        # evaluation resumes after the step, so the evaluation is made here.
        if 0 < self.step <= last and self._due(settings.eval_every) and not self._report.is_file():
            self.evaluate()
        while self.step < settings.rollout_steps:
            metrics = self.rollout_step()
            rows.row(f"step {self.step}/{settings.rollout_steps}", metrics)
            if self._due(settings.checkpoint_every) or self.step == settings.rollout_steps:
                self.save()
            if self._due(settings.eval_every) and self.step <= last:
                self.evaluate()

    def rollout_step(self) -> dict[str, float]:
        """Play groups, update the policy, load it into the engine; returns the metrics.

        Raises:
            ConfigError: no episode may train.
            ValueError: more tasks than `workers.max_failed_share` could not be played.
        """
        raise_if_stopped()
        # Between two steps, where nothing that was learned is lost by it.
        self.run.episodes.raise_failed()
        groups = self._take_groups()
        samples: list[TrainingSample] = []
        for group in groups.kept:
            samples += self.samples(group, first_sample=len(samples))
        if not samples:
            raise self._nothing_to_learn_from(groups)
        with whole_work():
            with self.clock.part("sync"):
                self.session.sleep()
            self._between_steps = False
            with self.clock.part("learner"):
                learner_metrics = self.learner.update(samples)
                tokens = kept_tokens(self.config, self.learner, groups, self.step + 1)
            try:
                with self.clock.part("sync"):
                    self.session.sync()
            finally:
                # If the engine is gone or the disk is full, the step was learned all the same: it
                # can be saved.
                try:
                    metrics = self._log(groups, learner_metrics, tokens)
                finally:
                    self.step += 1
                    self._end_step()
        return metrics

    def close(self) -> None:
        """Close the run's files. Groups that are still played are wanted no more."""
        self.groups.close()
        self.run.close(complete=self.step >= self.config.train.rollout_steps)

    def _begin_clock(self) -> None:
        """Start the engine if it has not yet: that is not the time of any step."""
        self._usage = self.session.usage()
        self.clock.lap()

    def _take_groups(self) -> PlayedGroups:
        """Wait for the groups of the next rollout step."""
        settings = self.config.train
        before = self.session.usage()
        episodes = settings.tasks_per_step * settings.num_generations
        with (
            self.clock.part("rollout"),
            progress(f"rollout step {self.step + 1}", episodes) as advance,
        ):
            groups = self.groups.take(
                steps_left=settings.rollout_steps - self.step,
                on_episode=advance_per_episode(advance, None),
            )
        self.clock.seconds.slowest = (self.session.usage() - before).places.slowest
        return groups

    def _begin_group(
        self, task: Task, number: int, on_episode: OnEpisode
    ) -> Future[list[Trajectory]]:
        """Let the group with a number be played.

        Its seed depends on nothing but the run's and the number, so a resumed run plays what the
        unbroken run would have.
        """
        settings = self.config.train
        return self.session.begin(
            task,
            group_size=settings.num_generations,
            temperature=settings.temperature,
            seed=derive_seed(self.config.seed, "group", number),
            on_episode=on_episode,
        )

    def _log(
        self,
        groups: PlayedGroups,
        learner_metrics: dict[str, float],
        tokens: Sequence[SampleTokens] | None,
    ) -> dict[str, float]:
        """Write the episodes and the metrics of a step; returns the metrics."""
        with self.clock.part("files"):
            # Dropped groups too: they show which tasks are too easy or too hard.
            keep = self.config.train.keep_trajectories
            self.run.write_groups(self.step + 1, groups.played, keep=keep, tokens=tokens)
        try:
            usage = self.session.usage()
        except Exception:
            # The engines are gone, as the error of `sync` says. The step counts all the same.
            usage = self._usage
        used, penalty = usage - self._usage, self.config.learner.invalid_turn_penalty or 0.0
        metrics = step_metrics(
            groups, learner_metrics, self.clock.lap(), used, invalid_turn_penalty=penalty
        )
        self._usage = usage
        self.run.log(self.step + 1, metrics)
        return metrics

    def samples(self, group: TrajectoryGroup, *, first_sample: int = 0) -> list[TrainingSample]:
        """The training samples of a group, with advantages as the objective computes them.

        Args:
            first_sample: the place of the first one among all samples of the step.
        """
        return group_samples(
            group, self.config.learner, version=self.session.version, first_sample=first_sample
        )

    def evaluate(self) -> None:
        """Evaluate the current policy; print the scores and write the report."""
        with self.clock.part("evaluation"):
            report, _ = self.session.evaluate(rollout_step=self.step)
        report.write(self._report)
        show(report, f"evaluation after rollout step {self.step}")

    def save(self) -> Path:
        """Write a checkpoint of the last whole step; returns its folder.

        Raises:
            OSError: the disk is full, or the episodes of an earlier step could not be written.
        """
        snapshot = Snapshot(
            step=self.step,
            save_model=self.learner.save_model,
            save_learner=self.learner.save,
            trainer_state=self._trainer_state,
            random_state=self._random_state,
            config_text=dump_config(self.config),
        )
        keep = self.config.train.keep_checkpoints
        with whole_work():
            with self.clock.part("files"):
                # A run that resumes after this step never plays its episodes again. A kill between
                # the two would leave a hole in the run's record for ever.
                self.run.episodes.wait()
            with self.clock.part("checkpoint"):
                self.saved = save_checkpoint(self.run.path, snapshot, keep=keep)
        return self.saved

    def _end_step(self) -> None:
        """Keep the states that a checkpoint of this step needs: playing the next one changes them.

        The weights and the learner's state change in an update only.
        """
        sampler = self.sampler.state_dict(self.groups.first)
        self._trainer_state = {"rollout_step": self.step, "sampler": sampler}
        self._random_state = random_state()
        self._between_steps = True

    def _keep_progress(self) -> None:
        """Save the last whole step if no checkpoint has it, and say where the run goes on.

        Nothing is raised: the error that ends the run is the one to see.
        """
        lost = ""
        if self.step and self.saved != self.run.layout.checkpoint(self.step):
            if not self._between_steps:
                lost = f"rollout step {self.step} is lost, as the next one's update was cut off; "
            else:
                try:
                    with whole_work():
                        lost = self._lost_episodes()
                        self.save()
                except Exception as error:
                    # Ray's own words on a death are many lines.
                    reason = death_of(error) or error
                    lost += f"rollout step {self.step} could not be saved ({reason}); "
        stopped = stopped_by()
        if self.saved is None:
            state = "no rollout step is saved, and `agent-rl train CONFIG` starts again"
        else:
            state = f"saved is {self.saved}; `agent-rl train CONFIG --resume` goes on from it"
        # An error before anything could be saved speaks for itself.
        if stopped or self.step:
            say_stopped(f"{f'stopped by {stopped}' if stopped else 'ended early'}: {lost}{state}")

    def _lost_episodes(self) -> str:
        """Wait for the episodes, so that a checkpoint is saved even if they could not be written.

        What a step learned is worth more than its record. Returns what to say about it.
        """
        try:
            self.run.episodes.wait()
        except OSError as error:
            return f"episodes could not be written ({error}); "
        return ""

    def _nothing_to_learn_from(self, groups: PlayedGroups) -> ConfigError:
        """Keep the episodes of a step in which all of them failed; the error that ends the run."""
        self.run.write_groups(self.step + 1, groups.played)
        self.run.episodes.wait()
        failed = [episode for group in groups.played for episode in group.trajectories]
        return ConfigError(
            f"env {self.config.env.id}: no episode of rollout step {self.step + 1} can train; the "
            f"first: {failed[0].error or failed[0].stop_reason.value}; all are in "
            f"{self.run.layout.trajectories}; `agent-rl envs check` may say more"
        )

    @property
    def _report(self) -> Path:
        """The report of the evaluation after the current step."""
        return self.run.layout.report(self.step)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _restore(self, checkpoint: Path) -> int:
        """Restore all states; returns the number of the next group."""
        state = load_checkpoint(checkpoint)
        try:
            self.learner.load(state.learner_folder)
        except ValueError as error:
            raise ConfigError(f"{error}; {way_out(checkpoint)}") from error
        try:
            state.restore_random_state()
            first = self.sampler.number_of(state.trainer_state["sampler"])
            self.step = int(state.trainer_state["rollout_step"])
        except (LookupError, TypeError, RuntimeError) as error:
            raise ConfigError(
                f"{checkpoint}: damaged, its {CHECKPOINT_STATE} or random state is not as it was "
                f"written ({error!r}); {way_out(checkpoint)}"
            ) from error
        say(f"resumed from {checkpoint}, after rollout step {self.step}")
        return first
