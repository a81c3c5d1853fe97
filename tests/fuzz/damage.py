"""Ways in which a file goes wrong: as bytes (cut, doubled, flipped) and as values."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"
"""What Git LFS leaves in the place of a large file."""

ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    "",
    "1e0",
    "yes",
    "../..",
    "\x1b[31mred",
    "\ud800",
    "x" * 10_000,
    [],
    [None],
    {},
    {"a": 1},
)
"""Values that some key somewhere does not expect."""


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file in place, in one way that `rng` draws; returns the name of the way."""
    ways = [*_BYTE_WAYS]
    if path.suffix in (".json", ".jsonl", ".yaml", ".tw-pddl"):
        # Twice: a value of the wrong type gets further into a program than noise does.
        ways += [wrong_value, lost_key] * 2
    way = rng.choice(ways)
    way(path, rng)
    return way.__name__


def cut(path: Path, rng: random.Random) -> None:
    """Keep the beginning only."""
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def emptied(path: Path, rng: random.Random) -> None:
    """Keep the name only."""
    path.write_bytes(b"")


def doubled(path: Path, rng: random.Random) -> None:
    """Write it twice."""
    path.write_bytes(path.read_bytes() * 2)


def flipped(path: Path, rng: random.Random) -> None:
    """Flip one to eight bits."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8) if data else 0):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def overwritten(path: Path, rng: random.Random) -> None:
    """Replace a stretch by random bytes."""
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    data[start : start + 64] = rng.randbytes(64)
    path.write_bytes(bytes(data))


def pointer(path: Path, rng: random.Random) -> None:
    """Leave what Git LFS leaves."""
    path.write_bytes(POINTER)


def deleted(path: Path, rng: random.Random) -> None:
    """Delete it."""
    path.unlink()


def folder_instead(path: Path, rng: random.Random) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()


def other_file(path: Path, rng: random.Random) -> None:
    """Put a file from beside it in its place."""
    others = [other for other in path.parent.iterdir() if other.is_file() and other != path]
    if others:
        shutil.copyfile(rng.choice(sorted(others)), path)


def wrong_value(path: Path, rng: random.Random) -> None:
    """Replace a value somewhere inside by an odd one."""

    def replace(holder: Any, key: Any) -> None:
        holder[key] = rng.choice(ODD_VALUES)

    _edit(path, rng, replace)


def lost_key(path: Path, rng: random.Random) -> None:
    """Delete a key or an item somewhere inside."""

    def delete(holder: Any, key: Any) -> None:
        del holder[key]

    _edit(path, rng, delete)


_BYTE_WAYS: tuple[Callable[[Path, random.Random], None], ...] = (
    cut,
    emptied,
    doubled,
    flipped,
    overwritten,
    pointer,
    deleted,
    folder_instead,
    other_file,
)


def _edit(path: Path, rng: random.Random, change: Callable[[Any, Any], None]) -> None:
    """Apply `change` to one place in the values of a file of YAML, JSON or JSON lines."""
    text = path.read_text()
    if path.suffix == ".yaml":
        values = yaml.safe_load(text)
        _edit_values(values, rng, change)
        path.write_text(yaml.safe_dump(values), errors="surrogatepass")
    elif path.suffix == ".jsonl":
        lines = [json.loads(line) for line in text.splitlines()]
        if lines:
            _edit_values(rng.choice(lines), rng, change)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    else:
        values = json.loads(text)
        _edit_values(values, rng, change)
        path.write_text(json.dumps(values))


def _edit_values(values: Any, rng: random.Random, change: Callable[[Any, Any], None]) -> None:
    places = list(_places(values))
    if places:
        change(*rng.choice(places))


def _places(values: Any) -> list[tuple[Any, Any]]:
    """All pairs of a mapping or list and one of its keys, at every depth."""
    found: list[tuple[Any, Any]] = []
    keys = values if isinstance(values, dict) else range(len(values))
    for key in keys:
        found.append((values, key))
        if isinstance(values[key], dict | list):
            found += _places(values[key])
    return found
