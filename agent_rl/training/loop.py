"""The loop: sample tasks, play groups, advantages, update, sync, log. It reads as the algorithm."""

import statistics
import time
from pathlib import Path

from transformers import PreTrainedModel

from agent_rl.config import Config, ConfigError, dump_config
from agent_rl.display import Column, StepRows, say
from agent_rl.evaluation.tables import show
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import open_learner
from agent_rl.learner.samples import TrainingSample, samples_from_group
from agent_rl.runs.checkpoint import (
    Snapshot,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from agent_rl.runs.folder import RunFolder
from agent_rl.tasks import training_tasks
from agent_rl.training.groups import StepGroups, collect_groups
from agent_rl.training.session import Session
from agent_rl.training.task_sampler import TaskSampler
from envs import Task
from rollouts import TrajectoryGroup
from rollouts.seeds import derive_seed

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
    Column("time/sync_share", "sync", ".0%"),
)


class TrainingLoop:
    """Trains a session's policy with the objective that the config names, and keeps the run in
    `folder`.

    A session to resume is opened on the checkpoint's model; `checkpoint` then gives the rest of the
    state. `reference` is the policy that `learner.beta` compares with.
    """

    def __init__(
        self,
        config: Config,
        session: Session,
        folder: Path,
        *,
        checkpoint: Path | None = None,
        reference: PreTrainedModel | None = None,
    ) -> None:
        self.config = config
        self.session = session
        self.step = 0
        self.learner = open_learner(
            session.model,
            config.learner,
            LearnerContext(
                total_steps=config.train.rollout_steps * config.learner.optimizer_steps,
                temperature=config.train.temperature,
                seed=config.seed,
                most_agent_tokens=config.episode.max_turns * config.episode.max_action_tokens,
                reference=reference,
                failure_folder=folder / "not_finite",
            ),
        )
        self.sampler = TaskSampler(training_tasks(config, session.tasks), config.seed)
        if checkpoint is not None:
            self._restore(checkpoint)
        self.run = RunFolder(folder, config, resume_from=self.step if checkpoint else None)

    def train(self, *, evaluate_last: bool = True) -> None:
        """Run the remaining rollout steps, with checkpoints and evaluations on the way.

        Without `evaluate_last` there is none after the last step, for a caller that evaluates what
        comes out.
        """
        settings = self.config.train
        rows = StepRows(COLUMNS)
        last = settings.rollout_steps if evaluate_last else settings.rollout_steps - 1
        if 0 < self.step <= last and self._due(settings.eval_every) and not self._report.is_file():
            self.evaluate()  # a run that was killed while it evaluated: its checkpoint is of the same step
        while self.step < settings.rollout_steps:
            clock = [time.perf_counter()]
            groups = collect_groups(self.sampler, self.play, settings)
            clock.append(time.perf_counter())
            samples = [sample for group in groups.kept for sample in self.samples(group)]
            if not samples:
                raise self._nothing_to_learn_from(groups)
            learning = self.learner.update(samples)
            clock.append(time.perf_counter())
            self.session.sync()
            clock.append(time.perf_counter())
            self.step += 1
            metrics = step_metrics(groups, learning, clock)
            self.run.write_groups(self.step, groups.played)
            self.run.log(self.step, metrics)
            rows.row(f"step {self.step}/{settings.rollout_steps}", metrics)
            if self._due(settings.checkpoint_every) or self.step == settings.rollout_steps:
                self.save()
            if self._due(settings.eval_every) and self.step <= last:
                self.evaluate()

    def close(self) -> None:
        """End the learner's processes and close the run's files."""
        self.learner.close()
        self.run.close()

    def play(self, tasks: list[Task], already: int) -> list[TrajectoryGroup]:
        """One group per task, with the present policy; `already` groups of this rollout step were
        played before.
        """
        settings = self.config.train
        seed = self.config.seed * 1_000_003 + self.step
        return self.session.play(
            tasks,
            f"rollout step {self.step + 1}",
            group_size=settings.num_generations,
            temperature=settings.temperature,
            seed=derive_seed(seed, already) if already else seed,
        )

    def samples(self, group: TrajectoryGroup) -> list[TrainingSample]:
        """What the learner gets of a group."""
        settings = self.config.learner
        return samples_from_group(
            group,
            settings.chosen_objective.advantage,
            **{
                key: value
                for key in ("turn_discount", "turn_advantage_weight")
                if (value := getattr(settings, key)) is not None
            },
        )

    def evaluate(self) -> None:
        """Evaluate the present policy; printed, and kept as JSON under `evaluations/`."""
        report, _ = self.session.evaluate(rollout_step=self.step)
        report.write(self._report)
        show(report, f"evaluation after rollout step {self.step}")

    def save(self) -> Path:
        """Write a whole checkpoint of the present step."""
        snapshot = Snapshot(
            step=self.step,
            model=self.session.model,
            tokenizer=self.session.tokenizer,
            save_learner=self.learner.save,
            trainer_state={"rollout_step": self.step, "sampler": self.sampler.state_dict()},
            config_text=dump_config(self.config),
        )
        keep = self.config.train.keep_checkpoints
        return save_checkpoint(self.run.path, snapshot, keep=keep)

    def _nothing_to_learn_from(self, groups: StepGroups) -> ConfigError:
        """The error that ends a run in which the environment failed in every episode of a rollout
        step.
        """
        self.run.write_groups(self.step + 1, groups.played)
        first = next(
            t for group in groups.played for t in group.trajectories if not t.stop_reason.trains
        )
        return ConfigError(
            f"env {self.config.env.id}: no episode of rollout step {self.step + 1} can train; the first: "
            f"{first.error or first.stop_reason.value}; all are in {self.run.path}/trajectories; `agent-rl envs check` "
            "may say more"
        )

    @property
    def _report(self) -> Path:
        """Of the evaluation after the present step."""
        return self.run.path / "evaluations" / f"step-{self.step:06d}.json"

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _restore(self, checkpoint: Path) -> None:
        state = load_checkpoint(checkpoint)
        state.restore_random_state()
        try:
            self.learner.load(state.learner_folder)
        except ValueError as error:
            raise ConfigError(
                f"{error}; remove the folder {checkpoint} to resume from the one before"
            ) from error
        self.sampler.load_state_dict(state.trainer_state["sampler"])
        self.step = state.trainer_state["rollout_step"]
        say(f"resumed from {checkpoint}, after rollout step {self.step}")


def checkpoint_to_resume(folder: Path) -> Path:
    """The newest whole checkpoint of a run.

    Raises:
        ConfigError: there is none.
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(
            f"{folder}: there is no whole checkpoint to resume from; delete the folder if it is there, and start "
            "without --resume"
        )
    return checkpoint


def step_metrics(
    groups: StepGroups, learning: dict[str, float], clock: list[float]
) -> dict[str, float]:
    """The numbers of one rollout step; `clock` holds the seconds at its start and after rollout,
    learner and sync.

    What is under `rollout/` is of all groups that were played, those that were dropped among them.
    Shares are of the step's seconds; tokens/s counts all tokens of its episodes.
    """
    seconds = {
        name: clock[i + 1] - clock[i] for i, name in enumerate(("rollout", "learner", "sync"))
    }
    played = groups.played
    every = [t for group in played for t in group.trajectories]
    episodes = [t for t in every if t.stop_reason.trains]
    turns = sum(len(t.turns) for t in episodes)
    total = sum(seconds.values())
    constant = sum(len({t.episode_return for t in group.trajectories}) == 1 for group in played)
    return {
        "rollout/success": statistics.fmean(t.success for t in episodes),
        "rollout/return": statistics.fmean(t.episode_return for t in episodes),
        "rollout/turns": turns / len(episodes),
        "rollout/invalid_actions": sum(t.invalid_actions for t in episodes) / max(turns, 1),
        "rollout/episodes": len(episodes),
        "rollout/failed_episodes": len(every) - len(episodes),
        **{f"rollout/{name}": count for name, count in groups.counts().items()},
        "rollout/groups_without_signal": constant / len(played),
        **{f"learner/{name}": value for name, value in learning.items()},
        "time/seconds": total,
        "time/tokens_per_second": sum(len(t.token_ids) for t in episodes) / total,
        "time/env_seconds": sum(t.env_seconds for t in episodes),
        "time/policy_seconds": sum(t.policy_seconds for t in episodes),
        **{f"time/{name}_share": value / total for name, value in seconds.items()},
    }
