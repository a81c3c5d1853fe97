"""The warm start (SFT): cross-entropy on the tokens of the expert's episodes."""

import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence

from agent_rl.config import Config, ConfigError
from agent_rl.display import Column, StepRows, progress, say
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import LearnerProcesses, LoadPolicy
from agent_rl.learner.samples import TrainingSample
from agent_rl.runs.folder import RunFolder
from agent_rl.tasks import pick_evenly, training_tasks
from agent_rl.training.session import Session
from envs import Task
from rollouts import Trajectory
from rollouts.workers.failed_tasks import FailedTasks

COLUMNS = (
    Column("sft/loss", "loss", ".4f"),
    Column("sft/token_accuracy", "accuracy", ".1%"),
    Column("sft/grad_norm", "grad norm", ".2f"),
    Column("sft/learning_rate", "rate", ".1e"),
    Column("sft/tokens_per_second", "tokens/s", ",.0f"),
)


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
    if episodes <= len(tasks):
        return pick_evenly(tasks, episodes, config.seed)
    if not config.sft.noise:
        raise ConfigError(
            f"sft.episodes: {episodes}, but there are {len(tasks)} tasks, and without sft.noise an "
            f"expert plays each the same way again; use at most {len(tasks)}, or set sft.noise"
        )
    rounds, rest = divmod(episodes, len(tasks))
    # pick_evenly reads 0 as "all of them".
    return tasks * rounds + (pick_evenly(tasks, rest, config.seed) if rest else [])


def expert_samples(trajectory: Trajectory, *, observations: bool) -> list[TrainingSample]:
    """An expert's episode as samples of the supervised loss, one for each of its parts.

    Args:
        observations: whether to train on all tokens but the first, which nothing predicts; else
            only on the expert's own.
    """
    samples = []
    for part in trajectory.parts:
        ids, mask, runs = part.token_ids, part.action_mask, len(part.turns)
        if observations:
            mask = (False,) + (True,) * (len(ids) - 1)
            # A sample has an advantage per run of trained tokens, and here there is only one run.
            runs = 1
        sample = TrainingSample(
            token_ids=ids,
            action_mask=mask,
            behavior_logprobs=part.behavior_logprobs,
            advantages=(1.0,) * runs,  # the supervised loss does not use them
        )
        samples.append(sample)
    return samples


def warm_start(
    config: Config,
    learner: LearnerProcesses,
    load: LoadPolicy,
    episodes: Sequence[Trajectory],
    run: RunFolder,
) -> None:
    """Train the policy that `load` gives on the expert's episodes; the learner has it afterwards.

    First `sft.observation_epochs` on all tokens, then `sft.epochs` on the expert's. Every epoch is
    shuffled. The learning rate rises over `sft.warmup_steps` and then falls linearly to 0.

    Args:
        learner: opens the policy.
        load: loads the policy to start from.
        run: gets a line of metrics per optimizer step.
    """
    settings = config.sft
    epochs = settings.observation_epochs + settings.epochs
    steps_per_epoch = math.ceil(len(episodes) / settings.batch_episodes)
    rate = {
        "learning_rate": settings.learning_rate,
        "muon_learning_rate": settings.muon_learning_rate,
        "warmup_steps": settings.warmup_steps,
        "schedule": "linear",
    }
    learner.open(
        load,
        config.learner.model_copy(update=rate),
        LearnerContext(total_steps=steps_per_epoch * epochs, seed=config.seed),
    )
    learner.wait()
    order = random.Random(config.seed)
    rows = StepRows(COLUMNS)
    steps: list[dict[str, float]] = []
    with progress("warm start", steps_per_epoch * epochs) as advance:
        for epoch in range(epochs):
            started = time.perf_counter()
            observations = epoch < settings.observation_epochs
            shuffled = order.sample(list(episodes), len(episodes))
            for begin in range(0, len(shuffled), settings.batch_episodes):
                batch: list[TrainingSample] = []
                for episode in shuffled[begin : begin + settings.batch_episodes]:
                    batch += expert_samples(episode, observations=observations)
                metrics = learner.supervised_step(batch)
                steps.append(metrics)
                run.log(len(steps), {f"sft/{name}": value for name, value in metrics.items()})
                advance(f"loss {metrics['loss']:.3f}")
            seconds = time.perf_counter() - started
            label = f"{'all tokens' if observations else 'epoch'} {epoch + 1}/{epochs}"
            rows.row(label, _epoch_metrics(steps[-steps_per_epoch:], seconds))


def _epoch_metrics(steps: Sequence[Mapping[str, float]], seconds: float) -> dict[str, float]:
    """The means over the optimizer steps of an epoch."""
    means = {}
    for name in steps[0]:
        means[f"sft/{name}"] = statistics.fmean(step[name] for step in steps)
    means["sft/tokens_per_second"] = sum(step["tokens"] for step in steps) / seconds
    return means
