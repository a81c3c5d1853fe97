"""`agent-rl bench replay`: every objective on one stored batch of episodes.

The batch is one rollout step of the config: `train.tasks_per_step` groups, played once by the
policy that training would start with. Each objective trains that policy on it, in
`learner.optimizer_steps` optimizer steps, and plays nothing. So all objectives see the same
episodes in the same order, and no rollout differs. A seed is an order of the data.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from agent_rl.commands.bench.replay_results import ReplayedRun, ReplayResults, show_replay
from agent_rl.commands.stages.start import starting_policy
from agent_rl.commands.sweep.plan import read_sweep
from agent_rl.config import Config, ConfigError, load_config
from agent_rl.config.keys import changed_values, flat_values
from agent_rl.config.learner import LearnerSettings
from agent_rl.display import progress, say
from agent_rl.evaluation.scores import GameScore
from agent_rl.learner.learner import Learner
from agent_rl.learner.samples import TrainingSample, group_samples
from agent_rl.objective.presets import PRESETS
from agent_rl.policy.loading import policy_loader
from agent_rl.policy.weight_sync import ServingCopy
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories, write_trajectories
from agent_rl.tasks import training_tasks
from agent_rl.training.loop import learner_context
from agent_rl.training.own_template import with_own_template
from agent_rl.training.session import Session
from agent_rl.training.task_sampler import TaskSampler
from rollouts import Trajectory, TrajectoryGroup

REFERENCE = "grpo"
"""The objective whose gradient those of all are compared with."""
PROBES = 4
"""How many of the optimizer steps have such a comparison, at most."""
FAR = 0.05
"""A mean |learner's - sampler's log-prob| above this says that another policy played, in nats."""

Policy = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@dataclass(frozen=True, kw_only=True)
class ReplayBench:
    """What to replay."""

    config: Config
    """Of the policy, the batch and the evaluation."""
    arms: Mapping[str, Config]
    """The config of each variant, by its name."""
    seeds: tuple[int, ...]
    """Orders of the data."""
    episodes: Path | None
    """The file of the batch; None is the run's own."""


def read_replay(
    path: str,
    overrides: Sequence[str],
    *,
    objectives: str | None,
    seeds: tuple[int, ...],
    tasks: int,
    episodes: Path | None,
) -> ReplayBench:
    """Read the config, and that of each variant.

    Args:
        path: the config's file.
        overrides: `key=value`, for all variants.
        objectives: names with commas between; by default the variants of the config's sweep, and
            without one all objectives.
        seeds: orders of the data.
        tasks: of the evaluation.
        episodes: the file of the batch.

    Raises:
        ConfigError: a setting or an objective is wrong, or a variant changes more than the learner.
    """
    # A grid varies the batch too, and here there is one.
    common = [*overrides, f"evaluation.tasks={tasks}"]
    config = load_config(path, common)
    if config.sweep is not None:
        common.append("sweep.grid={}")
    if objectives is None and (config.sweep is None or not config.sweep.variants):
        objectives = ",".join(PRESETS)
    sweep = read_sweep(path, common, objectives=objectives, seeds="0")
    arms = {run.variant: run.config for run in sweep.runs}
    base = flat_values(config)
    for name, arm in arms.items():
        for key in changed_values(base, flat_values(arm)):
            of_learner = key.startswith("learner.") and key != "learner.optimizer_steps"
            own = key in ("seed", "run_folder", "model.path") or key.startswith("sweep")
            if not of_learner and not own:
                raise ConfigError(
                    f"{path}: sweep.variants.{name}: {key}: a replay has one batch for all "
                    "variants, so they may change keys of learner only, and not optimizer_steps; "
                    "remove it, or name --objectives"
                )
    return ReplayBench(config=config, arms=arms, seeds=seeds, episodes=episodes)


def bench_replay(
    bench: ReplayBench, *, png_file: Path | None = None, json_file: Path | None = None
) -> ReplayResults:
    """Replay the batch with every variant and seed; print medians over seeds and their range.

    Raises:
        ConfigError: there is no policy to start from, or the batch cannot be used.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = bench.config
    source = starting_policy(config, trained=False)
    evaluates = config.evaluation.tasks > 0
    with Session(config, source, train=True) as session:
        groups, file = _batch(bench, session, source)
        episodes = sum(len(group.trajectories) for group in groups)
        say(
            f"{episodes:,} episodes in {len(groups)} groups from {file}; "
            f"{config.learner.optimizer_steps} optimizer steps on them, from {source}"
        )
        replay = _Replay(config, source, groups, session if evaluates else None)
        start = replay.start_games()
        runs = []
        with progress("replaying", len(bench.arms) * len(bench.seeds)) as advance:
            for name, arm in bench.arms.items():
                at_start = replay.cosine_at_start(arm.learner)
                for seed in bench.seeds:
                    runs.append(replay.run(name, arm.learner, seed, at_start))
                    advance(name)
    results = ReplayResults(
        source=source,
        episodes=episodes,
        groups=len(groups),
        optimizer_steps=config.learner.optimizer_steps,
        start=start,
        runs=runs,
    )
    mismatch = max((run.metrics.get("mismatch_abs_mean", 0.0) for run in runs), default=0.0)
    if mismatch > FAR:
        say(
            f"note: the policy's log-probs are {mismatch:.2f} nats from those of the episodes: "
            "another policy played them; use those of a run's first rollout step"
        )
    show_replay(results, png_file=png_file, json_file=json_file)
    return results


def groups_in(episodes: Sequence[Trajectory]) -> list[TrajectoryGroup]:
    """Put episodes together that follow each other and played the same task."""
    groups = []
    for task, of_task in groupby(episodes, key=lambda episode: episode.task):
        groups.append(TrajectoryGroup(task=task, trajectories=tuple(of_task)))
    return groups


def _batch(bench: ReplayBench, session: Session, source: str) -> tuple[list[TrajectoryGroup], Path]:
    """The groups of the batch, which are played if there is no file of them yet."""
    config = bench.config
    file = bench.episodes or RunLayout(Path(config.run_folder)).replayed
    if not file.is_file():
        groups = _play(config, session, source)
        write_trajectories(file, [one for group in groups for one in group.trajectories])
        return groups, file
    groups = groups_in(load_trajectories(file))
    if bench.episodes is None and len(groups) != config.train.tasks_per_step:
        raise ConfigError(
            f"{file}: holds {len(groups)} groups, and train.tasks_per_step is "
            f"{config.train.tasks_per_step}; delete it to play them, or name it with --episodes"
        )
    return groups, file


def _play(config: Config, session: Session, source: str) -> list[TrajectoryGroup]:
    """Play a rollout step's groups with the policy that training starts with."""
    train = config.train
    sampler = TaskSampler(training_tasks(config, session.tasks), config.seed)
    tasks = [sampler.task(number) for number in range(train.tasks_per_step)]
    with _served(config, session, _load(config, source)):
        return session.play(
            tasks,
            "the batch",
            group_size=train.num_generations,
            temperature=train.temperature,
            seed=config.seed,
        )


def _load(config: Config, source: str) -> Policy:
    """The policy as training would load it."""
    load = policy_loader(
        source, config.model.lora, revision=config.model.revision_of(source), seed=config.seed
    )
    return with_own_template(load, config.prompt)()


@contextlib.contextmanager
def _served(config: Config, session: Session, policy: Policy) -> Iterator[None]:
    """Let the session's engine serve a policy."""
    copy = ServingCopy(*policy, config.serving.dtype, lora=config.serving.lora)
    try:
        session.serve(copy)
        yield
    finally:
        copy.close()


class _Replay:
    """Trains the starting policy on the batch, again and again."""

    def __init__(
        self,
        config: Config,
        source: str,
        groups: Sequence[TrajectoryGroup],
        session: Session | None,
    ) -> None:
        self._config, self._source = config, source
        self._groups, self._session = groups, session
        self._entropy: float | None = None
        """Of the starting policy on the batch."""

    def start_games(self) -> Sequence[GameScore]:
        """The evaluation of the starting policy; empty without one."""
        return self._games(_load(self._config, self._source)) if self._session else ()

    def cosine_at_start(self, settings: LearnerSettings) -> float | None:
        """The cosine of the batch's whole gradient with that of `REFERENCE`, before any step."""
        one = {"optimizer_steps": 1, "probe": REFERENCE, "probe_every": 1}
        _, learner = self._learner(settings.model_copy(update=one), seed=0)
        try:
            return learner.update(self._samples(settings)).get("probe_cosine")
        except FloatingPointError:
            return None

    def run(
        self, arm: str, settings: LearnerSettings, seed: int, at_start: float | None
    ) -> ReplayedRun:
        """Train with one variant in one order of the data."""
        every = -(-settings.optimizer_steps // PROBES)
        probed = settings.model_copy(update={"probe": REFERENCE, "probe_every": every})
        policy, learner = self._learner(probed, seed=seed)
        samples = self._samples(settings)
        if self._entropy is None:
            self._entropy = learner.mean_entropy(samples)
        try:
            metrics = dict(learner.update(samples))
        except FloatingPointError as error:
            return ReplayedRun(arm=arm, seed=seed, metrics={}, error=str(error))
        metrics["entropy_change"] = learner.mean_entropy(samples) - self._entropy
        if at_start is not None:
            metrics["cosine_at_start"] = at_start
        games = self._games(policy) if self._session else ()
        return ReplayedRun(arm=arm, seed=seed, metrics=metrics, games=games)

    def _learner(self, settings: LearnerSettings, *, seed: int) -> tuple[Policy, Learner]:
        """A fresh copy of the starting policy, and a learner of it."""
        config = self._config
        policy = _load(config, self._source)
        has_reference = bool(settings.beta) and config.model.lora is None
        context = replace(
            learner_context(config, Path(config.run_folder)),
            total_steps=settings.optimizer_steps,
            seed=seed,
            reference=_load(config, self._source)[0] if has_reference else None,
            failure_folder=None,
        )
        return policy, Learner(policy[0], settings, context)

    def _samples(self, settings: LearnerSettings) -> list[TrainingSample]:
        """The batch, with advantages as the variant computes them."""
        samples: list[TrainingSample] = []
        for group in self._groups:
            samples += group_samples(group, settings, first_sample=len(samples))
        if not samples:
            raise ConfigError("no episode of the batch can train")
        return samples

    def _games(self, policy: Policy) -> Sequence[GameScore]:
        """The evaluation's games on the first split, as a policy plays them."""
        assert self._session is not None
        with _served(self._config, self._session, policy):
            report, _ = self._session.evaluate()
        return report.splits[self._config.evaluation.split[0]].games
