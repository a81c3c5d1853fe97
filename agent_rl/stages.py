"""The stages of an experiment, each a function of the config: a policy made, warm-started, trained, evaluated.

<run_folder>/init/     the policy made from scratch (Hugging Face format)
<run_folder>/sft/      the warm start's run, with model/
<run_folder>/train/    the reinforcement run, with checkpoints/
"""

import shutil
from pathlib import Path

from transformers.utils import logging as transformers_logging

from agent_rl.checkpoint import latest_checkpoint
from agent_rl.config import Config, ConfigError
from agent_rl.display import progress, say
from agent_rl.evaluation import EvaluationReport, present
from agent_rl.model import init_model, save_policy, train_tokenizer
from agent_rl.run_folder import RunFolder, write_trajectories
from agent_rl.session import Session
from agent_rl.supervised import expert_episodes, warm_start
from agent_rl.task_sampler import spread, training_tasks
from agent_rl.trainer import Trainer, checkpoint_to_resume
from envs import make_env
from rollouts.players import make_player
from rollouts.seeds import derive_seed

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

_CORPUS_TURNS = 10
_WORD_WEIGHT = 20
"""How often a name is repeated in the corpus, so that byte-pair merging keeps the rare ones whole as well."""


def starting_policy(config: Config, *, trained: bool = True) -> str:
    """Where the next stage starts, the most advanced first: checkpoint (if `trained`), warm start, `model.path`, init.

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


def init(config: Config) -> Path:
    """Make a policy from scratch: a tokenizer trained on the environment's text, and random weights."""
    folder = Path(config.run_folder) / "init"
    if folder.exists():
        raise ConfigError(f"{folder}: exists already; delete it or name another run_folder=...")
    tokenizer = train_tokenizer(corpus(config), config.model.vocab_size)
    model = init_model(config.model, tokenizer, seed=config.seed)
    save_policy(model, tokenizer, folder)
    parameters = sum(p.numel() for p in model.parameters())
    say(f"policy: {parameters / 1e6:.2f}M parameters, {len(tokenizer)} tokens, in {folder}")
    return folder


def corpus(config: Config) -> list[str]:
    """Text to train a tokenizer on: random walks through `model.corpus_tasks` training tasks, and their commands."""
    env = make_env(config.env.id, **config.env.options)
    tasks = spread(training_tasks(config, env.tasks), config.model.corpus_tasks, config.seed)
    texts = [f" {word} {number}" for word in env.words() for number in range(1, 10)] * _WORD_WEIGHT
    with progress("reading the environment", len(tasks)) as advance:
        for task in tasks:
            player = make_player("random", env, task, derive_seed(config.seed, task.id))
            observation, info = env.reset(seed=task.seed, options={"task": task})
            texts += [observation, *info.get("admissible_commands", ())]
            for _ in range(_CORPUS_TURNS):
                observation, _, terminated, truncated, info = env.step(player.choose(observation, info) or "")
                texts += [observation, *info.get("admissible_commands", ())]
                if terminated or truncated:
                    break
            advance(task.family)
    env.close()
    return texts


def sft(config: Config) -> Path:
    """The warm start: expert episodes, then supervised epochs; the policy is `<run_folder>/sft/model`."""
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


def train(config: Config, *, resume: bool = False) -> Path:
    """The reinforcement run, fresh or resumed; returns its newest checkpoint."""
    folder = Path(config.run_folder) / "train"
    checkpoint = checkpoint_to_resume(folder) if resume else None
    source = checkpoint / "model" if checkpoint else starting_policy(config, trained=False)
    say(f"training {source} with {config.learner.objective}")
    with Session(config, source) as session:
        trainer = Trainer(config, session, folder, checkpoint=checkpoint)
        trainer.train()
        trainer.run.close()
    return checkpoint_to_resume(folder)


def evaluate(
    config: Config, *, model: str | None = None, split: str | None = None, json: Path | None = None
) -> EvaluationReport:
    """Evaluate a policy on a split: the table, JSON where asked, and the episodes under `<run_folder>/evaluation/`."""
    source = model or starting_policy(config)
    with Session(config, source) as session:
        report, trajectories = session.evaluate(split, model=source)
    chosen = report.setting["split"]
    episodes = Path(config.run_folder) / "evaluation" / f"{chosen}.jsonl"
    title = f"{source} on {chosen}, T = {config.evaluation.temperature}"
    present(report, trajectories, title=title, episodes=episodes, json=json)
    return report
