"""Whether a checkpoint can go on under the present config, and what will change."""

from pathlib import Path
from typing import Any

from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.config.keys import changed_values, flat_values
from agent_rl.display import say
from agent_rl.runs.checkpoint import load_checkpoint
from agent_rl.runs.layout import CHECKPOINT_MODEL, CONFIG_FILE
from agent_rl.training.own_template import own_template_has_changed

_WITHOUT_INFLUENCE = ("run_folder", "sft", "sweep")
"""Keys and sections that a resumed run does not read; a folder may have been moved."""


def check_resumable(checkpoint: Path, config: Config) -> None:
    """Refuse a damaged checkpoint, or one of another run; say which settings will change.

    Raises:
        ValueError: a file is missing or damaged, or the config has another model, environment,
            seed or optimizer than the checkpoint.
    """
    load_checkpoint(checkpoint)
    file = checkpoint / CONFIG_FILE
    try:
        recorded = load_run_config(file)
    except ConfigError as error:
        # It may be of an earlier version, whose keys are gone.
        say(f"the settings of the checkpoint are not compared with the present ones: {error}")
        return
    for key, (was, now) in changed_values(flat_values(recorded), flat_values(config)).items():
        if key.split(".")[0] in _WITHOUT_INFLUENCE:
            continue
        if is_fixed(key, was, now):
            raise ConfigError(
                f"{file}: {key}: the checkpoint was made with {was!r}, and the config now says "
                f"{now!r}, which a resumed run cannot change; set it back, or start another run "
                "with run_folder=..."
            )
        say(f"changed since the checkpoint: {key}: {was!r} -> {now!r}")
    if own_template_has_changed(checkpoint / CHECKPOINT_MODEL, config.prompt):
        say(f"changed since the checkpoint: the text of prompt.template: {config.prompt.template}")


def is_fixed(key: str, was: Any, now: Any) -> bool:
    """Whether a run must keep the value of a key, because its checkpoint is made of it."""
    if key == "learner.muon_learning_rate":
        # Another rate is fine. Another optimizer would start from states that it cannot read.
        return (was is None) != (now is None)
    # The weights are the checkpoint's: the path to the first ones may have changed.
    of_model = key.startswith("model.") and key not in ("model.path", "model.revision")
    return of_model or key in ("seed", "env.id")
