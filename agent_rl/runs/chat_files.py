"""Files of chats: JSON lines of messages or ATIF, and folders of ATIF objects."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent_rl.config import ConfigError
from agent_rl.runs.atif import chat_from_atif, is_atif
from agent_rl.runs.chats import ChatEpisode, chat_from_messages


def read_chats(path: Path) -> list[ChatEpisode]:
    """Read episodes from a file of messages or ATIF, or from a folder of such files.

    A file in `.jsonl` has an episode in each line; one in `.json` is one episode in ATIF.

    Raises:
        ConfigError: there is no such file, or a line is no episode; the message names the line.
    """
    episodes = []
    for place, record in _records(path):
        try:
            chat = chat_from_atif(record) if is_atif(record) else chat_from_messages(record)
        except ValueError as error:
            raise ConfigError(f"{place}: not an episode: {_reason(error)}") from error
        episodes.append(replace(chat, place=place))
    if not episodes:
        raise ConfigError(f"{path}: holds no episode; write one with `agent-rl export-episodes`")
    return episodes


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    """The JSON values of a file or folder, each with its place."""
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not path.exists() or not files:
        raise ConfigError(
            f"{path}: no such file of episodes (.jsonl of messages or ATIF), nor a folder of "
            "ATIF's .json files"
        )
    for file in files:
        whole = file.suffix == ".json"
        try:
            text = file.read_text()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{file}: no text ({error}); name a .jsonl or .json file") from error
        for number, line in enumerate([text] if whole else text.split("\n"), start=1):
            if line.strip():
                place = str(file) if whole else f"{file}:{number}"
                try:
                    yield place, json.loads(line)
                except json.JSONDecodeError as error:
                    raise ConfigError(f"{place}: not valid JSON: {error}") from error


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)
