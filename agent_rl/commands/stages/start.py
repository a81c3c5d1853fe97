"""How a stage of a run begins: alone in its folder, with which policy, new or resumed.

Light to import.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.files import locked, set_aside
from agent_rl.runs.layout import CHECKPOINT_MODEL, RunLayout, StageLayout, missing_files


def starting_policy(config: Config, *, trained: bool = True) -> str:
    """The path or hub name of the run's newest policy.

    In this order: the newest checkpoint, the warm start's model, `model.path`, the policy made from
    scratch.

    Args:
        trained: whether checkpoints count; reinforcement learning itself starts without them.

    Raises:
        ConfigError: there is no policy yet, or its warm start was stopped before the end.
    """
    run = RunLayout(Path(config.run_folder))
    checkpoints = run.train.whole_checkpoints() if trained else []
    if checkpoints:
        return str(checkpoints[-1] / CHECKPOINT_MODEL)
    if run.sft.model.is_dir():
        return str(run.sft.model)
    if run.sft.metrics_file.exists():
        raise ConfigError(
            f"{run.sft.folder}: the warm start is unfinished; go on with `agent-rl sft CONFIG "
            "--resume`, or delete the folder to do without it"
        )
    return policy_before_training(config)


def policy_before_training(config: Config) -> str:
    """The path or hub name of the policy that a warm start begins with.

    Raises:
        ConfigError: there is none.
    """
    run = RunLayout(Path(config.run_folder))
    if config.model.path:
        return config.model.path
    if run.init.is_dir():
        return str(run.init)
    raise ConfigError(
        f"run_folder {run.folder}: holds no policy yet; make one with `agent-rl init CONFIG`, "
        "or name one in model.path (a Hugging Face folder, a hub name or a .gguf file)"
    )


@contextmanager
def locked_run(run: RunLayout) -> Iterator[None]:
    """Hold a run's folder for one command that trains in it; evaluating needs no lock.

    If the command fails before it writes anything, a folder that was made for the lock goes again.

    Raises:
        ConfigError: another process holds it.
    """
    is_new = not run.folder.exists()
    busy = (
        f"{run.folder}: in use, another process trains in this run folder; wait for it or stop it, "
        "or name another run_folder=..."
    )
    with locked(run.lock_file, busy):
        try:
            yield
        except BaseException:
            if is_new and [*run.folder.iterdir()] == [run.lock_file]:
                run.lock_file.unlink()
                run.folder.rmdir()
            raise


def checkpoint_to_resume(stage: StageLayout, *, resume: bool) -> Path | None:
    """The newest whole checkpoint, or None if the stage is to begin; says what is passed over.

    Raises:
        ConfigError: there is a whole checkpoint, and `resume` is false; or no checkpoint is whole.
    """
    whole = stage.whole_checkpoints()
    if whole and not resume:
        raise ConfigError(
            f"{stage.folder}: holds a run already, with {whole[-1].name}; resume it with "
            "`agent-rl train CONFIG --resume`, or delete the folder, or name another run_folder=..."
        )
    torn = [path for path in stage.checkpoint_folders() if path not in whole]
    if torn and not whole:
        raise ConfigError(
            f"{torn[-1]}: {', '.join(missing_files(torn[-1]))} missing, and no other checkpoint is "
            f"whole; put it back, or delete {stage.checkpoints} to start again"
        )
    if whole and torn and torn[-1].name > whole[-1].name:
        missing = ", ".join(missing_files(torn[-1]))
        say(f"{torn[-1]}: {missing} missing, so it is passed over")
    if resume and not whole:
        say(f"{stage.folder}: nothing to resume, so the run starts from the beginning")
    return whole[-1] if whole else None


def set_unfinished_aside(stage: StageLayout) -> None:
    """Rename the folder of a stage that was stopped before anything of it could be used."""
    if stage.is_begun():
        aside = set_aside(stage.folder, "interrupted")
        say(f"{stage.folder}: was stopped before its first checkpoint; it is kept as {aside}")
