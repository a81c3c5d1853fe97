"""`agent-rl export-episodes`: a run's episodes for other tools, as ATIF, messages or parquet."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from agent_rl.commands.export.chosen_episodes import (
    Choice,
    Seen,
    Stage,
    StoredEpisode,
    chosen_episodes,
    run_config,
)
from agent_rl.commands.export.dataset_card import dataset_card
from agent_rl.commands.export.parquet import require_pyarrow, write_parquet
from agent_rl.config import ConfigError
from agent_rl.display import say
from agent_rl.files import whole_file, whole_folder
from agent_rl.runs.atif import AtifSource, atif_record
from agent_rl.runs.chats import messages_record
from agent_rl.runs.layout import RunLayout, run_around

Format = Literal["atif", "messages", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
_SUFFIXES: dict[Format, str] = {"atif": ".jsonl", "messages": ".jsonl", "parquet": ".parquet"}


def export_episodes(
    run: Path,
    form: Format,
    *,
    stage: Stage = "train",
    choice: Choice | None = None,
    output: Path | None = None,
    hub: str = "",
) -> Path:
    """Write the chosen episodes of a run, and upload them if asked to.

    Episodes that say nothing about the policy (`Trajectory.trains`) are left out.

    Args:
        run: the run's folder.
        form: one of `FORMATS`.
        stage: whose episodes.
        choice: the filters; None takes all.
        output: the file, which is replaced. For ATIF also a new folder, a file for each episode.
            None: a file in `RUN/episodes`.
        hub: `owner/name` of a data set to upload to; one that does not exist is made, and is
            private.

    Returns:
        The file or folder.

    Raises:
        ConfigError: there is no such run or episode, the output's name does not fit the format, or
            pyarrow is missing. Or the upload failed: then the file has been written.
    """
    layout = RunLayout(run_around(run) or run)
    if hub:
        from agent_rl.commands.export.folder import refuse_bad_name

        refuse_bad_name(hub)
    if form == "parquet":
        require_pyarrow()
    config = run_config(layout, stage)
    path = output or layout.exported_episodes / f"{form}{_SUFFIXES[form]}"
    as_folder = _is_folder(path, form)
    seen = Seen()
    stored = chosen_episodes(layout, stage, choice or Choice(), seen)
    name = layout.folder.resolve().name
    if form == "parquet":
        with whole_file(path) as unfinished:
            write_parquet(unfinished, stored, run=name, system=config.prompt.system)
    else:
        source = AtifSource(run=name, model=config.model.path or name, prompt=config.prompt)
        record = (
            partial(_atif, source=source)
            if form == "atif"
            else partial(_messages, system=config.prompt.system)
        )
        (_write_folder if as_folder else _write_lines)(path, stored, record)
    left_out = f"; left out are {seen.unusable} in which the environment or the engine failed"
    say(f"{seen.chosen} of {seen.all} episodes: {path}{left_out if seen.unusable else ''}")
    if hub:
        card = dataset_card(name, config, form, stage, seen.chosen, file=path.name)
        _push(layout, path, hub, card)
    return path


def _atif(stored: StoredEpisode, source: AtifSource) -> dict[str, Any]:
    return atif_record(stored.trajectory, episode_id=stored.id, source=source)


def _messages(stored: StoredEpisode, system: str) -> dict[str, Any]:
    return messages_record(stored.trajectory, episode_id=stored.id, system=system)


def _is_folder(path: Path, form: Format) -> bool:
    """Whether the output is a folder; raises if its name does not fit the format."""
    if path.suffix == _SUFFIXES[form]:
        return False
    if form == "atif" and not path.suffix:
        return True
    folder = ", or of a new folder (a .json file for each)" if form == "atif" else ""
    raise ConfigError(
        f"--output {path}: with --format {form} write the name of a {_SUFFIXES[form]} file{folder}"
    )


def _write_lines(
    path: Path,
    stored: Iterable[StoredEpisode],
    record: Callable[[StoredEpisode], dict[str, Any]],
) -> None:
    with whole_file(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        for episode in stored:
            # Escaped to ASCII: a half character of an environment cannot be written otherwise.
            file.write(json.dumps(record(episode)) + "\n")


def _write_folder(
    path: Path,
    stored: Iterable[StoredEpisode],
    record: Callable[[StoredEpisode], dict[str, Any]],
) -> None:
    with whole_folder(path) as unfinished:
        for episode in stored:
            name = f"{episode.id.replace('/', '-')}.json"
            (unfinished / name).write_text(json.dumps(record(episode), indent=2) + "\n")


def _push(run: RunLayout, path: Path, hub: str, card: str) -> None:
    """Upload the data with a card, from a folder beside the exports."""
    from agent_rl.commands.export.folder import push

    if path.is_dir():
        raise ConfigError(
            f"--push-to-hub {hub}: {path} is a folder of single episodes; name a .jsonl file"
        )
    folder = run.exported_episodes / "hub"
    with whole_folder(folder, replace=True) as unfinished:
        (unfinished / path.name).write_bytes(path.read_bytes())
        (unfinished / "README.md").write_text(card)
    push(folder, hub, "dataset")
