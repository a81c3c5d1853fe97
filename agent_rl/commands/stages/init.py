"""`agent-rl init`: make a policy from scratch."""

from pathlib import Path

from agent_rl.commands.stages.corpus import corpus
from agent_rl.commands.stages.start import locked_run
from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.files import whole_folder
from agent_rl.policy.experts import model_size
from agent_rl.policy.from_scratch import init_model, train_tokenizer
from agent_rl.policy.saving import save_policy
from agent_rl.runs.layout import RunLayout


def init(config: Config) -> Path:
    """Train a tokenizer on the environment's text and draw random weights; returns the folder.

    Raises:
        ConfigError: the run has such a policy already, or the environment fails in every task.
    """
    run = RunLayout(Path(config.run_folder))
    with locked_run(run):
        return init_in(config, run.init)


def init_in(config: Config, folder: Path) -> Path:
    """As `init`, in a run folder that the caller has locked."""
    if folder.exists():
        raise ConfigError(
            f"{folder}: exists already; go on with `agent-rl sft CONFIG` or `agent-rl train "
            "CONFIG`, or delete it, or name another run_folder=..."
        )
    tokenizer = train_tokenizer(corpus(config), config.model.vocab_size, config.model.tokens_within)
    model = init_model(config.model, tokenizer, seed=config.seed)
    with whole_folder(folder) as unfinished:
        save_policy(model, tokenizer, unfinished)
    say(f"policy: {model_size(model)}, {len(tokenizer)} tokens, in {folder}")
    return folder
