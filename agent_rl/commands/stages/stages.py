"""The stages of an experiment, each a function of the config: a policy made, warm-started, trained,
evaluated.

<run_folder>/init/     the policy made from scratch (Hugging Face format)
<run_folder>/sft/      the warm start's run, with model/
<run_folder>/train/    the reinforcement run, with checkpoints/
"""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from agent_rl.config import Config, ConfigError
from agent_rl.display import console, progress, say
from agent_rl.evaluation.playing import (
    EvaluatedPlayer,
    Outputs,
    policy_name,
    run_evaluation,
    set_aside_after,
    tasks_by_split,
)
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.policy.fingerprint import fingerprint
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.loading import load_policy, save_policy
from agent_rl.runs.checkpoint import latest_checkpoint
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.tasks import pick_evenly, training_tasks
from agent_rl.training.loop import TrainingLoop, checkpoint_to_resume
from agent_rl.training.session import Session, policy_details
from agent_rl.training.warm_start import expert_episodes, warm_start
from envs import Task, TextEnv, make_env
from rollouts import StopReason
from rollouts.mistakes import Mistakes
from rollouts.players import RandomPlayer
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.seeds import derive_seed
from rollouts.workers.pool import OnEpisode

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

_CORPUS_TURNS = 10
_CORPUS_NOISE = 0.1
"""The share of wrong commands in the corpus: how an environment refuses them is to be whole tokens
as well.
"""
_NUMBERS = tuple(f" {number}" for number in range(1, 10))
_WORD_WEIGHT = 20
"""How often a name is repeated in the corpus, so that byte-pair merging keeps the rare ones whole
as well.
"""


def starting_policy(config: Config, *, trained: bool = True) -> str:
    """Where the next stage starts, the most advanced first: checkpoint (if `trained`), warm start,
    `model.path`, init.

    Raises:
        ConfigError: there is no policy yet.
    """
    folder = Path(config.run_folder)
    checkpoint = latest_checkpoint(folder / "train") if trained else None
    if checkpoint is not None:
        return str(checkpoint / "model")
    if (folder / "sft" / "model").is_dir():
        return str(folder / "sft" / "model")
    if config.model.path:
        return config.model.path
    if (folder / "init").is_dir():
        return str(folder / "init")
    raise ConfigError(
        f"run_folder {folder}: holds no policy yet; make one with `agent-rl init CONFIG`, "
        "or name one in model.path (a Hugging Face folder, a hub name or a .gguf file)"
    )


def reference_policy(config: Config) -> PreTrainedModel | None:
    """The policy that the reinforcement started with, for `learner.beta`; None where it is not
    needed.

    A LoRA adapter's policy is compared with itself, the adapter off.
    """
    if not config.learner.beta or config.model.lora is not None:
        return None
    return load_policy(starting_policy(config, trained=False))[0]


def init(config: Config) -> Path:
    """Make a policy from scratch: a tokenizer trained on the environment's text, and random
    weights.
    """
    folder = Path(config.run_folder) / "init"
    if folder.exists():
        raise ConfigError(f"{folder}: exists already; delete it or name another run_folder=...")
    tokenizer = train_tokenizer(corpus(config), config.model.vocab_size, config.model.tokens_within)
    model = init_model(config.model, tokenizer, seed=config.seed)
    save_policy(model, tokenizer, folder)
    parameters = sum(p.numel() for p in model.parameters())
    say(f"policy: {parameters / 1e6:.2f}M parameters, {len(tokenizer)} tokens, in {folder}")
    return folder


def corpus(config: Config) -> list[str]:
    """Text to train a tokenizer on: random walks through `model.corpus_tasks` training tasks, and
    their commands.

    To it come the environment's `words()`, each alone and with the numbers from 1 to 9.

    They are walked in this process, without Ray: a walk in which the environment fails is left out,
    with a line that says so, but an environment that does not come back is waited for.

    Raises:
        ConfigError: the environment failed in all of them.
    """
    env = make_env(config.env.id, **config.env.options)
    tasks = pick_evenly(training_tasks(config, env.tasks), config.model.corpus_tasks, config.seed)
    settings = config.episode.model_copy(update={"max_turns": _CORPUS_TURNS})
    texts = [
        f" {word}{number}" for word in env.words() for number in ("", *_NUMBERS)
    ] * _WORD_WEIGHT
    player = RandomPlayer(env, config.seed)
    failures = []
    with progress("reading the environment", len(tasks)) as advance:
        for task in tasks:
            read = ReadEnv(env)
            # Of each walk its own: with one seed for all, none of them may be refused anything.
            seed = derive_seed(config.seed, "corpus", task.id)
            mistakes = Mistakes(_CORPUS_NOISE, seed=seed)
            episode = run_scripted_episode(
                read, task, player, byte_renderer(), settings, mistakes=mistakes
            )
            walk = asyncio.run(episode)
            if walk.stop_reason is StopReason.ENV_ERROR:
                failures.append(f"task {task.id!r}: {walk.error}")
            else:
                texts += read.texts()
            advance(task.family)
    env.close()
    if len(failures) == len(tasks):
        raise ConfigError(
            f"env.id {config.env.id!r}: it failed in all {len(tasks)} tasks that were tried: {failures[0]}"
        )
    if failures:
        say(
            f"the environment failed in {len(failures)} of {len(tasks)} tasks, which are left out: {failures[0]}"
        )
    return texts


class ReadEnv(TextEnv):
    """An environment during one episode, whose answers are kept."""

    def __init__(self, env: TextEnv) -> None:
        self._env = env
        self._answers: list[tuple[Any, ...]] = []
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def tasks(self, split: str) -> list[Task]:
        return self._env.tasks(split)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        answer = self._env.reset(seed=seed, options=options)
        self._answers.append(answer)
        return answer

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        answer = self._env.step(action)
        self._answers.append(answer)
        return answer

    def texts(self) -> list[str]:
        """The observations, and the commands that each choice was made from; for an episode without
        a wrong answer.
        """
        *before, (last, *_) = self._answers
        found: list[str] = []
        for observation, *_, info in before:
            found += [observation, *(info.get("admissible_commands") or ())]
        return [*found, last]


def sft(config: Config) -> Path:
    """The warm start: expert episodes, then supervised epochs; the policy is
    `<run_folder>/sft/model`.
    """
    folder = Path(config.run_folder) / "sft"
    source = starting_policy(config, trained=False)
    say(f"warm start of {source}")
    run = RunFolder(folder, config)
    with Session(config, source) as session:
        return sft_in(config, session, run)


def sft_in(config: Config, session: Session, run: RunFolder) -> Path:
    """The warm start within an open session, whose model it changes."""
    episodes = expert_episodes(config, session)
    write_trajectories(run.path / "trajectories" / "expert.jsonl", episodes)
    warm_start(config, session.model, episodes, run)
    run.close()
    partial = run.path / "model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    save_policy(session.model, session.tokenizer, partial)
    return partial.rename(run.path / "model")


def train(
    config: Config, *, resume: bool = False, then: Callable[[Session, str], None] | None = None
) -> Path:
    """The reinforcement run, fresh or resumed; returns its newest checkpoint.

    `then` gets the session, whose engine serves the trained policy, and the path of that policy; it
    is left to it to evaluate the last rollout step.
    """
    folder = Path(config.run_folder) / "train"
    checkpoint = checkpoint_to_resume(folder) if resume else None
    source = checkpoint / "model" if checkpoint else starting_policy(config, trained=False)
    say(f"training {source} with {config.learner.objective}")
    with Session(config, source, train=True, resume=resume) as session:
        loop = TrainingLoop(
            config, session, folder, checkpoint=checkpoint, reference=reference_policy(config)
        )
        try:
            set_aside_after(folder.parent, loop.step)
            loop.train(evaluate_last=then is None)
        finally:
            loop.close()
        newest = checkpoint_to_resume(folder)
        if then is not None:
            then(session, str(newest / "model"))
    return newest


def under_evaluation(config: Config, source: str) -> tuple[EvaluatedPlayer, dict[str, list[Task]]]:
    """The policy at `source` as the subject of an evaluation, and the tasks of each split that it
    is to play.
    """
    with console.status("reading the policy and listing the games"):
        known = fingerprint(source)
        env = make_env(config.env.id, **config.env.options)
        tasks = tasks_by_split(config, env)
        env.close()
    subject = EvaluatedPlayer(
        model=source,
        name=policy_name(source),
        identity=known.policy,
        weights=known.weights,
        temperature=config.evaluation.temperature,
        details=policy_details(config),
    )
    return subject, tasks


def evaluate(
    config: Config,
    *,
    model: str | None = None,
    again: bool = False,
    json: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
) -> EvaluationReport:
    """Evaluate a policy, the run's newest unless `model` names one, as the config's `evaluation`
    says.

    What an earlier call has played is not played again, unless `again`. The tables are printed; the
    report and the episodes go to `<run_folder>/evaluations/`, and the report to the files that are
    named.
    """
    source = model or starting_policy(config)
    subject, tasks = under_evaluation(config, source)
    with ExitStack() as stack:

        @cache
        def session() -> Session:
            return stack.enter_context(Session(config, source))

        def play(tasks: list[Task], label: str, seed: int, on_episode: OnEpisode) -> None:
            session().play_once(tasks, label, seed, on_episode)

        return run_evaluation(
            config,
            subject,
            tasks,
            play,
            again=again,
            outputs=Outputs(json=json, markdown=markdown, latex=latex),
        )
