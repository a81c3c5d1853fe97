"""The tokens that a model itself ends its answers with, as the files in its folder name them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envs.files import read_json_object

_FILES = ("generation_config.json", "config.json")
_KEY = "eos_token_id"


def end_ids(value: Any, where: str) -> tuple[int, ...]:
    """Return the ids in an `eos_token_id`: none, one, or a list of them.

    Args:
        where: the file that it is from, for the message.

    Raises:
        ValueError: it is something else.
    """
    ids = value if isinstance(value, list | tuple) else [] if value is None else [value]
    if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
        raise ValueError(
            f"{where}: {_KEY}: {value!r} is no token id, nor a list of them; copy the file again "
            "from the model that it belongs to"
        )
    return tuple(ids)


def end_ids_of_folder(folder: Path) -> tuple[int, ...]:
    """Return all ids that a model folder's configs name as its end tokens, each once.

    Raises:
        ValueError: a file is damaged.
    """
    return tuple(dict.fromkeys(_named_in(folder)))


def _named_in(folder: Path) -> Iterator[int]:
    for name in _FILES:
        if (folder / name).is_file():
            file = folder / name
            yield from end_ids(read_json_object(file).get(_KEY), str(file))
