"""Games that were parsed once: in this process, and on disk for the next one, by the content of
their files.
"""

import hashlib
import logging
import sqlite3
from functools import cache, lru_cache
from pathlib import Path

from envs.alfworld.data import decode_game, read_game_file
from envs.alfworld.engines.game import Game, build_game
from envs.alfworld.engines.game_file import Problem, UnknownToNativeEngine, read_problem
from envs.files import cache_root

PARSER_VERSION = 1
"""Part of the key of a parsed game: raise it when the same file comes to be parsed into something
else.
"""

_GAMES_IN_MEMORY = 512
_WAIT_SECONDS = 5.0
_SEAL_BYTES = 16


def load_game(path: Path) -> Game:
    """The game in a `game.tw-pddl`. The last few hundred stay in memory, and all that were ever
    parsed on disk.

    Raises:
        ValueError: the file is no game, or holds something that the native engine has no rule for.
    """
    stat = path.stat()
    return _load(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(_GAMES_IN_MEMORY)
def _load(path: Path, size: int, changed_ns: int) -> Game:
    content = read_game_file(path)
    key = hashlib.blake2b(content, digest_size=16, salt=PARSER_VERSION.to_bytes(2)).hexdigest()
    problem = _recall(key)
    try:
        if problem is None:
            problem = read_problem(decode_game(path, content))
            _remember(key, problem)
        return build_game(problem)
    except UnknownToNativeEngine as error:
        raise ValueError(
            f"{path}: the native engine has no rules for this game: {error}; set env.options.engine: textworld to play "
            "it with the stock engine"
        ) from error


def forget_games() -> None:
    """Drop the games in memory, so that the next `load_game` is one from disk."""
    _load.cache_clear()


def cache_file() -> Path:
    """Where parsed games are kept: an SQLite database, so that many processes may use it at once."""
    return cache_root() / "games.sqlite"


def _recall(key: str) -> Problem | None:
    try:
        row = (
            _database(cache_file())
            .execute("SELECT problem FROM problems WHERE key = ?", (key,))
            .fetchone()
        )
        return None if row is None else Problem.from_json(_unsealed(row[0]))
    except (sqlite3.OperationalError, OSError) as error:
        _do_without(str(error))
    except (sqlite3.DatabaseError, ValueError) as error:
        _make_anew(error)
    return None


def _remember(key: str, problem: Problem) -> None:
    try:
        row = (key, _sealed(problem.to_json()))
        _database(cache_file()).execute("INSERT OR REPLACE INTO problems VALUES (?, ?)", row)
    except (sqlite3.DatabaseError, OSError) as error:
        _do_without(str(error))


def _sealed(text: str) -> bytes:
    """The text behind its digest, so that damage shows."""
    content = text.encode()
    return hashlib.blake2b(content, digest_size=_SEAL_BYTES).digest() + content


def _unsealed(sealed: bytes) -> str:
    """The text that was sealed (ValueError where it is another one now)."""
    content = sealed[_SEAL_BYTES:]
    if hashlib.blake2b(content, digest_size=_SEAL_BYTES).digest() != sealed[:_SEAL_BYTES]:
        raise ValueError("an entry is not what was written")
    return content.decode()


@cache
def _do_without(reason: str) -> None:
    """Say once that the cache cannot be used: that costs time and nothing else."""
    logging.getLogger(__name__).warning(
        "%s: %s; games are parsed anew each time. AGENT_RL_CACHE names another folder",
        cache_file(),
        reason,
    )


def _make_anew(error: Exception) -> None:
    """A damaged cache costs the time to parse its games again, nothing else."""
    logging.getLogger(__name__).warning("%s: damaged (%s); it is made anew", cache_file(), error)
    _database.cache_clear()
    for part in ("", "-wal", "-shm"):
        Path(f"{cache_file()}{part}").unlink(missing_ok=True)


@cache
def _database(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(
        path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )
    # A cache may lose its last entries when the machine dies; to wait for the disk would cost more
    # than parsing.
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS problems (key TEXT PRIMARY KEY, problem BLOB) WITHOUT ROWID"
    )
    return database
