"""The policy that a stage of a run starts from. Light to import."""

from pathlib import Path

from agent_rl.config import Config, ConfigError
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout


def starting_policy(config: Config, *, trained: bool = True) -> str:
    """The path or hub name of the run's newest policy.

    In this order: the newest checkpoint, the warm start's model, `model.path`, the policy made from
    scratch.

    Args:
        trained: whether checkpoints count; reinforcement learning itself starts without them.

    Raises:
        ConfigError: there is no policy yet.
    """
    run = RunLayout(Path(config.run_folder))
    checkpoints = run.train.whole_checkpoints() if trained else []
    if checkpoints:
        return str(checkpoints[-1] / CHECKPOINT_MODEL)
    if run.sft.model.is_dir():
        return str(run.sft.model)
    if config.model.path:
        return config.model.path
    if run.init.is_dir():
        return str(run.init)
    raise ConfigError(
        f"run_folder {run.folder}: holds no policy yet; make one with `agent-rl init CONFIG`, "
        "or name one in model.path (a Hugging Face folder, a hub name or a .gguf file)"
    )
