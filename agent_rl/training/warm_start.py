"""The warm start (SFT): cross-entropy on the tokens of the expert's episodes."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from agent_rl.config import Config, ConfigError
from agent_rl.config.sections import SftSettings
from agent_rl.display import Column, StepRows, progress, say
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import LearnerProcesses, LoadPolicy
from agent_rl.learner.samples import TrainingSample, supervised_sample
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.layout import CHECKPOINT_LEARNER
from agent_rl.tasks import repeat_evenly, training_tasks
from agent_rl.training.session import Session
from agent_rl.training.warm_start_checkpoint import Position, save_warm_start
from envs import Task
from rollouts import Trajectory
from rollouts.seeds import derive_seed
from rollouts.types import Part
from rollouts.workers.failed_tasks import FailedTasks

COLUMNS = (
    Column("sft/loss", "loss", ".4f"),
    Column("sft/token_accuracy", "accuracy", ".1%"),
    Column("sft/grad_norm", "grad norm", ".2f"),
    Column("sft/learning_rate", "rate", ".1e"),
    Column("sft/tokens_per_second", "tokens/s", ",.0f"),
)

Lesson = Callable[[], list[TrainingSample]]
"""Makes the samples of an episode. Those of all episodes at once would take much memory."""


def expert_episodes(config: Config, session: Session) -> list[Trajectory]:
    """Let the environment's expert play; returns the episodes that it wins.

    Raises:
        ConfigError: it won none, the config asks for more episodes than differ from each other, or
            for summaries.
        ValueError: more tasks than `workers.max_failed_share` could not be played.
    """
    if config.prompt.history == "summary":
        raise ConfigError(
            "prompt.history: summary: an expert sums nothing up; warm-start with another history, "
            "such as prompt.history=window"
        )
    tasks = tasks_to_play(config, training_tasks(config, session.tasks))
    played = session.play_expert(tasks, noise=config.sft.noise, seed=config.seed)
    failed = FailedTasks(config.env.id, most=config.workers.max_failed_share, tasks=len({*tasks}))
    failed.add(played)
    failed.check()
    if failed.summary():
        say(failed.summary())
    won = [episode for episode in played if episode.success]
    tokens = sum(len(episode.token_ids) for episode in won)
    say(f"expert: won {len(won)} of {len(played)} episodes, {tokens:,} tokens")
    if not won:
        raise ConfigError(
            f"env {config.env.id}: its expert won none of {len(played)} episodes within "
            f"{config.episode.max_turns} turns; raise episode.max_turns, or lower sft.noise"
        )
    return won


def tasks_to_play(config: Config, tasks: list[Task]) -> list[Task]:
    """The tasks of `sft.episodes` episodes; some are repeated if there are fewer tasks.

    No task occurs more than once more often than another. 0 episodes means every task once.

    Raises:
        ConfigError: tasks would be repeated without `sft.noise`, so the episodes would be equal.
    """
    episodes = config.sft.episodes
    if episodes > len(tasks) and not config.sft.noise:
        raise ConfigError(
            f"sft.episodes: {episodes}, but there are {len(tasks)} tasks, and without sft.noise an "
            f"expert plays each the same way again; use at most {len(tasks)}, or set sft.noise"
        )
    return repeat_evenly(tasks, episodes, config.seed)


def expert_samples(trajectory: Trajectory, *, observations: bool) -> list[TrainingSample]:
    """An expert's episode as samples of the supervised loss, one for each of its parts.

    Args:
        observations: whether to train on all tokens but the first, which nothing predicts, and
            mistakes, which are drawn by lot; else only on the expert's own.
    """
    samples = []
    for part in trajectory.parts:
        ids, mask = part.token_ids, part.action_mask
        if observations:
            mask = (False, *_without_mistakes(part)[1:])
        samples.append(supervised_sample(ids, mask))
    return samples


def _without_mistakes(part: Part) -> list[bool]:
    """True for all ids but those of wrong commands that were mixed in."""
    mask: list[bool] = []
    for turn in part.turns:
        begin = len(mask)
        mask += [True] * (len(turn.prompt_token_ids) + len(turn.completion.token_ids))
        for first, end in turn.mistakes:
            mask[begin + first : begin + end] = [False] * (end - first)
    return mask


def warm_start(
    config: Config,
    learner: LearnerProcesses,
    load: LoadPolicy,
    episodes: Sequence[Trajectory],
    run: RunFolder,
    play_own: Callable[[int], Sequence[Lesson]],
    *,
    begun: Position | None = None,
) -> None:
    """Train the policy that `load` gives on the expert's episodes; the learner has it afterwards.

    First `sft.observation_epochs` on all tokens, then `sft.epochs` on the expert's. Every epoch is
    shuffled. Last come `sft.own_rounds` with episodes of the policy as it is by then. The learning
    rate rises over `sft.warmup_steps` and then falls linearly to 0.

    Args:
        learner: opens the policy.
        load: loads the policy to start from.
        run: gets a line of metrics per optimizer step.
        play_own: lets the learner's policy play a round with a number, from 1, and returns its
            episodes.
        begun: where a warm start goes on from its checkpoint in `run`; None begins one.
    """
    settings = config.sft
    rate = {
        "learning_rate": settings.learning_rate,
        "muon_learning_rate": settings.muon_learning_rate,
        "warmup_steps": settings.warmup_steps,
        "schedule": "linear",
    }
    learner.open(
        load,
        config.learner.model_copy(update=rate),
        LearnerContext(total_steps=planned_steps(settings, len(episodes)), seed=config.seed),
    )
    learner.wait()
    if begun is not None:
        learner.load(run.layout.warm_start_checkpoint / CHECKPOINT_LEARNER)
    training = _Epochs(config, learner, run, begun or Position())
    reading: list[Lesson] = [partial(expert_samples, e, observations=True) for e in episodes]
    lessons: list[Lesson] = [partial(expert_samples, e, observations=False) for e in episodes]
    epochs = settings.observation_epochs + settings.epochs
    for epoch in range(1, settings.observation_epochs + 1):
        training.train(reading, f"all tokens {epoch}/{epochs}")
    for epoch in range(settings.observation_epochs + 1, epochs + 1):
        training.train(lessons, f"epoch {epoch}/{epochs}")
    for number in range(1, settings.own_rounds + 1):
        own = list(play_own(number))
        lessons = lessons + own if settings.own_replay else own
        for _ in range(settings.own_epochs):
            training.train(lessons, f"round {number}/{settings.own_rounds}")


def planned_steps(settings: SftSettings, episodes: int) -> int:
    """The optimizer steps of a warm start, if no episode of the policy fails.

    Args:
        episodes: of the expert.
    """
    steps = _steps(settings, episodes) * (settings.observation_epochs + settings.epochs)
    for number in range(1, settings.own_rounds + 1):
        replayed = episodes + (number - 1) * settings.own_episodes if settings.own_replay else 0
        steps += _steps(settings, replayed + settings.own_episodes) * settings.own_epochs
    return steps


def _steps(settings: SftSettings, episodes: int) -> int:
    return math.ceil(episodes / settings.batch_episodes)


class _Epochs:
    """Trains the learner's policy epoch by epoch, with checkpoints."""

    def __init__(
        self, config: Config, learner: LearnerProcesses, run: RunFolder, begun: Position
    ) -> None:
        self._config, self._learner, self._run, self._begun = config, learner, run, begun
        self._rows = StepRows(COLUMNS)
        self._epoch = 0
        self._taken = begun.taken
        """Optimizer steps so far, in all epochs."""

    def train(self, lessons: Sequence[Lesson], label: str) -> None:
        """Train on all lessons once, in a new order, or on what is left of them."""
        self._epoch += 1
        if self._epoch <= self._begun.epochs:
            return
        # The order is that of the epoch's number, so an epoch that was stopped goes on in it.
        order = random.Random(derive_seed(self._config.seed, "warm start", self._epoch))
        shuffled = order.sample(list(lessons), len(lessons))
        size = self._config.sft.batch_episodes
        first = self._begun.steps if self._epoch == self._begun.epochs + 1 else 0
        started = time.perf_counter()
        steps: list[dict[str, float]] = []
        with progress(f"warm start, {label}", math.ceil(len(shuffled) / size)) as advance:
            for number in range(math.ceil(len(shuffled) / size)):
                if number < first:
                    advance("")
                    continue
                batch: list[TrainingSample] = []
                for lesson in shuffled[number * size : (number + 1) * size]:
                    batch += lesson()
                steps.append(self._step(batch))
                self._save_if_due(number + 1)
                advance(f"loss {steps[-1]['loss']:.3f}")
        if steps:
            self._rows.row(label, _epoch_metrics(steps, time.perf_counter() - started))

    def _step(self, batch: Sequence[TrainingSample]) -> dict[str, float]:
        """Take an optimizer step; returns its metrics, which are logged."""
        metrics = self._learner.supervised_step(batch)
        self._taken += 1
        self._run.log(self._taken, {f"sft/{name}": value for name, value in metrics.items()})
        return metrics

    def _save_if_due(self, steps: int) -> None:
        """Save a checkpoint if it is time for one; `steps` of the epoch are done."""
        every = self._config.sft.checkpoint_every
        if every and self._taken % every == 0:
            position = Position(epochs=self._epoch - 1, steps=steps, taken=self._taken)
            save_warm_start(self._run.layout, self._learner, position)


def _epoch_metrics(steps: Sequence[Mapping[str, float]], seconds: float) -> dict[str, float]:
    """The means over the optimizer steps of an epoch."""
    means = {}
    for name in steps[0]:
        means[f"sft/{name}"] = statistics.fmean(step[name] for step in steps)
    means["sft/tokens_per_second"] = sum(step["tokens"] for step in steps) / seconds
    return means
