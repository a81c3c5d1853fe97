"""`agent-rl export`: a policy as a Hugging Face folder with a model card, for the hub too."""

from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError  # type: ignore[attr-defined]
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from agent_rl.commands.export.model_card import model_card
from agent_rl.commands.export.origin import Origin
from agent_rl.config import Config, ConfigError
from agent_rl.config.keys import EXPORTED_CONFIG
from agent_rl.display import say
from agent_rl.files import whole_folder
from agent_rl.policy.loading import load_policy
from agent_rl.policy.saving import save_policy
from rollouts.rendering.chat_template import use_template

DTYPES = ("bfloat16", "float16", "float32")


def export(
    config: Config, source: str, *, to: Path | None = None, dtype: str = "bfloat16", hub: str = ""
) -> Path:
    """Write a policy as a Hugging Face folder with a model card, and upload it if asked to.

    The folder holds weights (safetensors), config, tokenizer, `README.md`, and the config of the
    run that made the policy as `agent_rl.yaml`. It appears whole or not at all.

    Args:
        config: the config of the run, if the run recorded none.
        source: as in `load_policy`; an adapter that a checkpoint was trained with is merged in.
        to: a new or empty folder; None: `RUN_FOLDER/export`.
        dtype: the number format of the weights, one of `DTYPES`.
        hub: `owner/name` to upload to; a repository that does not exist is made, and is private.

    Returns:
        The folder.

    Raises:
        ConfigError: the folder is not empty or `dtype` is unknown. Or the upload failed: then the
            folder has been written.
        ValueError: there is no model at `source`.
    """
    folder = to or Path(config.run_folder) / "export"
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype}: is not one of {', '.join(DTYPES)}")
    if hub:
        refuse_bad_name(hub)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder}: exists already and is not empty; delete it, or name another folder with "
            "--to"
        )
    origin = Origin.of(source, config)
    revision = config.model.revision_of(source)
    model, tokenizer = load_policy(source, getattr(torch, dtype), revision=revision)
    if origin.place is None:  # the policies of a run have it
        use_template(tokenizer, config.prompt)
    card = model_card(origin, model, folder=folder, hub=hub, dtype=dtype)
    with whole_folder(folder) as unfinished:
        save_policy(model, tokenizer, unfinished)
        (unfinished / "README.md").write_text(card)
        (unfinished / EXPORTED_CONFIG).write_text(origin.config_text)
    say(f"{source} in {dtype}, with a model card: {folder}")
    if hub:
        push(folder, hub)
    return folder


def push(folder: Path, hub: str, kind: Literal["model", "dataset"] = "model") -> None:
    """Upload a folder to a repository of the hub; a new repository is private.

    Raises:
        ConfigError: there is no token, no network, or no permission.
    """
    option = "" if kind == "model" else f" --repo-type {kind}"
    later = f"the export is in {folder}; upload it later with `hf upload{option} {hub} {folder}`"
    if get_token() is None:
        raise ConfigError(
            f"--push-to-hub {hub}: no token; log in with `hf auth login` or set HF_TOKEN; {later}"
        )
    api = HfApi()
    try:
        api.create_repo(hub, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=hub, repo_type=kind, folder_path=folder, commit_message="Export of agent-rl"
        )
    except HfHubHTTPError as error:
        message = error.server_message or _first_line(error)
        status = error.response.status_code if error.response is not None else "no answer"
        raise ConfigError(
            f"--push-to-hub {hub}: the hub refused ({status}: {message}); may your token write "
            f"there? {later}"
        ) from error
    except (HTTPError, OSError) as error:
        raise ConfigError(
            f"--push-to-hub {hub}: the hub cannot be reached ({_first_line(error)}); {later}"
        ) from error
    place = hub if kind == "model" else f"{kind}s/{hub}"
    say(f"uploaded to {api.endpoint}/{place}")


def refuse_bad_name(hub: str) -> None:
    """Raise a ConfigError if `hub` is no name of a repository."""
    try:
        validate_repo_id(hub)
    except HFValidationError as error:
        raise ConfigError(
            f"--push-to-hub {hub}: is no repository's name ({error}); write owner/name"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
