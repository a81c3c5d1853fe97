"""The warm start: expert episodes, then cross-entropy on the expert's tokens."""

import random
import statistics
import time
from collections.abc import Sequence

from transformers import PreTrainedModel

from agent_rl.config import Config, ConfigError
from agent_rl.display import Column, StepRows, progress, say
from agent_rl.learner.learner import LearnerContext
from agent_rl.learner.processes import open_learner
from agent_rl.learner.samples import TrainingSample
from agent_rl.runs.folder import RunFolder
from agent_rl.tasks import pick_evenly, training_tasks
from agent_rl.training.session import Session
from envs import Task
from rollouts import Trajectory

COLUMNS = (
    Column("sft/loss", "loss", ".4f"),
    Column("sft/token_accuracy", "accuracy", ".1%"),
    Column("sft/grad_norm", "grad norm", ".2f"),
    Column("sft/learning_rate", "rate", ".1e"),
    Column("sft/tokens_per_second", "tokens/s", ",.0f"),
)


def expert_episodes(config: Config, session: Session) -> list[Trajectory]:
    """Let the environment's expert play; the episodes that it wins.

    Raises:
        ConfigError: the expert won nothing, so there is nothing to learn from; or tasks would be
        played again alike.
    """
    tasks = tasks_to_play(config, training_tasks(config, session.tasks))
    played = session.play_expert(tasks, noise=config.sft.noise, seed=config.seed)
    won = [trajectory for trajectory in played if trajectory.success]
    say(
        f"expert: won {len(won)} of {len(played)} episodes, {sum(len(t.token_ids) for t in won):,} tokens"
    )
    if not won:
        raise ConfigError(
            f"env {config.env.id}: its expert won none of {len(played)} episodes within {config.episode.max_turns} "
            "turns; raise episode.max_turns, or lower sft.noise"
        )
    return won


def tasks_to_play(config: Config, tasks: list[Task]) -> list[Task]:
    """As many as `sft.episodes` says, each as often as every other, as far as it goes."""
    wanted = config.sft.episodes
    if wanted <= len(tasks):
        return pick_evenly(tasks, wanted, config.seed)
    if not config.sft.noise:
        raise ConfigError(
            f"sft.episodes: {wanted}, but there are {len(tasks)} tasks, and without sft.noise an expert plays each the "
            f"same way again; use at most {len(tasks)}, or set sft.noise"
        )
    rounds, rest = divmod(wanted, len(tasks))
    return tasks * rounds + (pick_evenly(tasks, rest, config.seed) if rest else [])


def expert_sample(trajectory: Trajectory, *, read: bool) -> TrainingSample:
    """An expert's episode as a sample: its own tokens are trained, or (`read`) all but the first.

    The advantages are not used by the supervised loss.
    """
    mask = (False, *(True for _ in trajectory.token_ids[1:])) if read else trajectory.action_mask
    return TrainingSample(
        token_ids=trajectory.token_ids,
        action_mask=mask,
        behavior_logprobs=trajectory.behavior_logprobs,
        advantages=(1.0,) * (1 if read else len(trajectory.turns)),
    )


def warm_start(
    config: Config, model: PreTrainedModel, episodes: Sequence[Trajectory], run: RunFolder
) -> None:
    """Train `model` in place: `sft.observation_epochs` on all tokens, then `sft.epochs` on the
    expert's.

    Every epoch is shuffled; the learning rate rises over `sft.warmup_steps` and falls linearly to 0
    over the rest.
    """
    settings = config.sft
    epochs = settings.observation_epochs + settings.epochs
    steps_per_epoch = -(-len(episodes) // settings.batch_episodes)
    rate = {
        "learning_rate": settings.learning_rate,
        "muon_learning_rate": settings.muon_learning_rate,
        "warmup_steps": settings.warmup_steps,
        "schedule": "linear",
    }
    learner = open_learner(
        model,
        config.learner.model_copy(update=rate),
        LearnerContext(total_steps=steps_per_epoch * epochs, seed=config.seed),
    )
    order = random.Random(config.seed)
    rows = StepRows(COLUMNS)
    taken = 0
    with progress("warm start", steps_per_epoch * epochs) as advance:
        for epoch in range(epochs):
            started = time.perf_counter()
            read = epoch < settings.observation_epochs
            samples = [
                expert_sample(episode, read=read)
                for episode in order.sample(list(episodes), len(episodes))
            ]
            steps = []
            for begin in range(0, len(samples), settings.batch_episodes):
                steps.append(
                    learner.supervised_step(samples[begin : begin + settings.batch_episodes])
                )
                taken += 1
                run.log(taken, {f"sft/{name}": value for name, value in steps[-1].items()})
                advance(f"loss {steps[-1]['loss']:.3f}")
            metrics = {
                f"sft/{name}": statistics.fmean(step[name] for step in steps) for name in steps[0]
            }
            metrics["sft/tokens_per_second"] = sum(s["tokens"] for s in steps) / (
                time.perf_counter() - started
            )
            rows.row(f"{'reading' if read else 'epoch'} {epoch + 1}/{epochs}", metrics)
    learner.fetch_weights()
    learner.close()
