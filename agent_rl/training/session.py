"""A policy that plays: its served weights, the serving engine and the workers."""

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from tempfile import gettempdir
from types import TracebackType
from typing import Any

import torch
from transformers import PreTrainedModel

from agent_rl.config import Config
from agent_rl.display import console, progress, say
from agent_rl.evaluation.playing import repeat_seed, setting_of, tasks_by_split
from agent_rl.evaluation.report import EvaluationReport, summarize
from agent_rl.policy.checks import refuse_untrainable
from agent_rl.policy.loading import load_description, load_policy
from agent_rl.policy.weight_sync import ServedWeights, ServingCopy
from agent_rl.tasks import open_environment
from agent_rl.training.pool import advance_per_episode, open_pool, play_scripted
from envs import Task
from envs.registry import object_reader
from rollouts import Trajectory, TrajectoryGroup
from rollouts.processes.serving_folder import ServingFolder
from rollouts.renderer import ChatRenderer, Renderer, make_renderer
from rollouts.rendering.chat_template import use_template
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.model_config import model_context_length, require_servable
from rollouts.serving.served_adapter import room_for
from rollouts.workers.pool import RolloutPool
from rollouts.workers.stream import OnEpisode
from rollouts.workers.usage import Usage


class Session:
    """A policy that is ready to play and to learn.

    Ray, the environments' processes and the serving engine start when they are first needed. Use
    the session as a context manager.
    """

    version: int
    """Number of the weights that are served: 0 at first, one more with each `sync`."""

    def __init__(self, config: Config, source: str | Path, *, train: bool = False) -> None:
        """Look at the policy, and load it unless a learner will.

        Args:
            config: the run's config.
            source: a Hugging Face folder, a hub name or a `.gguf` file.
            train: whether a learner loads the policy, in its own processes. Then `serve` comes
                before episodes of the policy.

        Raises:
            ValueError: there is no usable policy at `source`, or it does not fit `prompt`.
        """
        self.config, self.source, self.version = config, str(source), 0
        revision = config.model.revision_of(self.source)
        model: PreTrainedModel | None = None
        if train:
            self._model_config, self._tokenizer = load_description(self.source, revision=revision)
        else:
            model, self._tokenizer = load_policy(self.source, revision=revision)
            self._model_config = model.config
        use_template(self._tokenizer, config.prompt)
        # The workers make their own. This one says what is wrong before any process starts.
        renderer = self.renderer()
        if isinstance(renderer, ChatRenderer) and not renderer.appends:
            why = renderer.judgement.why_not_append
            say(f"each turn has a new prompt (see docs/prompts.md): {why}")
        self._pool: RolloutPool | None = None
        # Before the copy, whose folder would stay if this failed.
        self._env = open_environment(config)
        self._own: ServingCopy | None = None
        if model is not None:
            self._own = ServingCopy(model, self._tokenizer, config.serving.dtype)
        self._weights: ServedWeights | None = self._own

    def renderer(self) -> Renderer:
        """The renderer of the policy's prompts and answers."""
        return make_renderer(self._tokenizer, self.config.prompt)

    def context_length(self) -> int:
        """The tokens that a prompt and its answer may have together."""
        with self._described() as folder:
            return model_context_length(folder, self.config.serving)

    def require_trainable(self) -> None:
        """Raise ValueError if the learner cannot train this model, or the engine not serve it.

        See `refuse_untrainable` and `require_servable`.
        """
        with self._described() as folder:
            serving, gpu = self.config.serving, torch.cuda.is_available()
            require_servable(folder, serving, gpu=gpu)
            if serving.lora == "adapter" and self.config.model.lora is not None:
                room_for(self.config.model.lora.rank)
            context_length = model_context_length(folder, serving)
        refuse_untrainable(self._model_config, self.source, context_length)

    def tasks(self, split: str) -> list[Task]:
        """The environment's tasks of a split."""
        return self._env.tasks(split)

    def serve(self, weights: ServedWeights) -> None:
        """Let the engine take its weights from there: one that runs at once, or else at its start.

        Args:
            weights: of the policy that was served before, or of another one of its shape.
        """
        self._weights = weights
        if self._pool is not None:
            self.sync()

    def sync(self) -> None:
        """Load the policy's current weights into the serving engine."""
        self.version += 1
        self._served.write()
        # An engine that has not started yet reads the copy when it starts.
        if self._pool is not None:
            self._pool.sync_weights(self._served.folder, self.version)

    def sleep(self) -> None:
        """Let the engine give its memory to the learner until `sync`, if `serving.sleep` is set."""
        if self.config.serving.sleep and self._pool is not None:
            self._pool.sleep()

    def play(
        self,
        tasks: list[Task],
        label: str,
        *,
        group_size: int,
        temperature: float,
        seed: int,
        advised: bool = False,
        corrections: int | None = None,
        on_episode: OnEpisode | None = None,
    ) -> list[TrajectoryGroup]:
        """Play a group of episodes of each task with the synced weights.

        Args:
            label: of the progress bar.
            group_size: episodes per task.
            advised: whether the expert says in each turn what it would do (`Turn.advice`).
            corrections: the turns that differ from its advice at which an episode ends; None plays
                on.
            on_episode: is called with each episode as it ends.

        Returns:
            A group per task, in the order of the tasks.
        """
        pool = self._playing_pool()
        with progress(label, len(tasks) * group_size) as advance:
            return pool.collect(
                tasks,
                group_size=group_size,
                temperature=temperature,
                seed=seed,
                advised=advised,
                corrections=corrections,
                on_episode=advance_per_episode(advance, on_episode),
            )

    def begin(
        self, task: Task, *, group_size: int, temperature: float, seed: int, on_episode: OnEpisode
    ) -> Future[list[Trajectory]]:
        """Let a group of episodes be played with the synced weights of then (`RolloutPool.begin`).

        They go on while the learner works. If new weights are synced meanwhile, they go on with
        those.
        """
        return self._playing_pool().begin(
            task, group_size=group_size, temperature=temperature, seed=seed, on_episode=on_episode
        )

    def usage(self) -> Usage:
        """What the engine has done, and how the places for episodes were used, since the start."""
        return self._playing_pool().usage()

    def _playing_pool(self) -> RolloutPool:
        """The pool with an engine, which starts if it has not yet."""
        if self._pool is None:
            # Outside of the next line's status: a learner may have to start first.
            folder = self._served.folder
            with console.status("starting Ray, the environments and vLLM"):
                self._pool = open_pool(self.config, folder, serve=True, version=self.version)
        return self._pool

    def play_expert(self, tasks: list[Task], *, noise: float, seed: int) -> list[Trajectory]:
        """Let the environment's expert play each task once, in the tokens of this policy.

        Args:
            noise: the share of its commands that are replaced by wrong ones.
        """
        # The expert needs no engine, so none is started for it.
        if self._pool is not None:
            return play_scripted(self._pool, tasks, "expert", noise=noise, seed=seed)
        with (
            self._described() as folder,
            open_pool(self.config, folder, serve=False) as pool,
        ):
            return play_scripted(pool, tasks, "expert", noise=noise, seed=seed)

    def play_once(
        self, tasks: list[Task], label: str, seed: int, on_episode: OnEpisode | None = None
    ) -> list[Trajectory]:
        """Play each task once at the evaluation's temperature; episodes in the order of tasks."""
        temperature = self.config.evaluation.temperature
        groups = self.play(
            tasks, label, group_size=1, temperature=temperature, seed=seed, on_episode=on_episode
        )
        return [group.trajectories[0] for group in groups]

    def evaluate(self, **more: Any) -> tuple[EvaluationReport, list[Trajectory]]:
        """Play the evaluation with the synced weights, and score it.

        Args:
            more: further keys of the report's setting.

        Returns:
            The report, and the episodes by split, by repeat and in the order of the tasks.
        """
        config = self.config
        by_split: dict[str, list[list[Trajectory]]] = {}
        for split, tasks in tasks_by_split(config, self._env).items():
            by_split[split] = []
            for repeat in range(config.evaluation.repeats):
                # The seeds of `agent-rl evaluate`: a later evaluation of this policy samples alike.
                seed = repeat_seed(config.seed, repeat)
                by_split[split].append(self.play_once(tasks, f"evaluation on {split}", seed))
        setting = setting_of(
            config,
            self.source,
            config.evaluation.temperature,
            **policy_details(config),
            **more,
        )
        repeats = chain.from_iterable(by_split.values())
        report = summarize(by_split, setting, object_reader(config.env.id))
        return report, list(chain.from_iterable(repeats))

    def close(self) -> None:
        """End the engine and the workers, and remove the session's own serving copy."""
        # The copy first: ending processes may fail, or take longer than a stopped job has.
        if self._own is not None:
            self._own.close()
        try:
            if self._pool is not None:
                self._pool.close()
        finally:
            self._env.close()

    @property
    def _served(self) -> ServedWeights:
        assert self._weights is not None, "serve() comes first"
        return self._weights

    @contextmanager
    def _described(self) -> Iterator[Path]:
        """Yield a folder with the policy's config and tokenizer, for what needs no weights."""
        # If the process is killed, the next start deletes it.
        with closing(ServingFolder(Path(gettempdir()))) as folder:
            self._model_config.save_pretrained(folder.path)
            self._tokenizer.save_pretrained(folder.path)
            yield folder.path

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def policy_details(config: Config) -> dict[str, Any]:
    """The conditions of a policy's episodes besides its weights and the environment."""
    return {
        "prompt": config.prompt.model_dump(mode="json"),
        "dtype": chosen_dtype(config.serving.dtype, gpu=torch.cuda.is_available()),
        "context_length": config.serving.context_length,
    }
