"""Files and folders that are written whole or not at all, and the cache."""

import errno
import os
from pathlib import Path

import pytest

from envs.files import (
    cache_root,
    cached_folder,
    hold_lock,
    is_disk_full,
    is_locked,
    naming_full_disk,
    new_folder,
    whole_file,
    write_cached_file,
)


def test_the_cache_is_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.setenv("AGENT_RL_CACHE", "")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_root() == Path("/home/someone/.cache/agent_rl")


def test_a_recipe_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))
    made = []

    def generate(folder: Path) -> None:
        made.append(folder)
        with new_folder(folder) as partial:
            (partial / "game").touch()

    first = cached_folder("games", {"seed": 1, "size": 2}, generate)
    again = cached_folder("games", {"size": 2, "seed": 1}, generate)
    other = cached_folder("games", {"seed": 2, "size": 2}, generate)
    assert first == again
    assert made == [first, other]
    assert first.parent == other.parent == tmp_path / "games"


def test_a_slower_process_takes_the_folder_of_the_quicker_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))

    def generate(folder: Path) -> None:
        with new_folder(folder) as partial:
            (partial / "ours").touch()
            folder.mkdir()
            (folder / "theirs").touch()

    folder = cached_folder("games", {}, generate)
    assert [path.name for path in folder.iterdir()] == ["theirs"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_error_of_the_generator_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path))

    def generate(folder: Path) -> None:
        raise ValueError("games.train: too many")

    with pytest.raises(ValueError, match="too many"):
        cached_folder("games", {}, generate)


def test_a_new_folder_appears_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "games"
    with new_folder(folder) as partial:
        (partial / "game").touch()
        assert not folder.exists()
    assert list((tmp_path / "data").iterdir()) == [folder]
    assert folder.stat().st_mode & 0o777 == 0o755


def test_a_new_folder_that_fails_does_not_appear(tmp_path: Path) -> None:
    def fill() -> None:
        with new_folder(tmp_path / "games") as partial:
            (partial / "game").touch()
            raise KeyError

    with pytest.raises(KeyError):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_takes_the_place_of_an_empty_one_only(tmp_path: Path) -> None:
    folder = tmp_path / "games"
    folder.mkdir()
    with new_folder(folder) as partial:
        (partial / "game").touch()
    with pytest.raises(ValueError, match="games: already there and not empty"), new_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["game"]


def test_a_whole_file_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.json"
    for text in ("old", "new"):
        with whole_file(path) as unfinished:
            unfinished.write_text(text)
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text("old")

    def write() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("ne")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_follows_a_link_and_writes_a_pipe_directly(tmp_path: Path) -> None:
    target, link, pipe = (tmp_path / name for name in ("target", "link", "pipe"))
    target.write_text("old")
    link.symlink_to(target)
    with whole_file(link) as unfinished:
        unfinished.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    os.mkfifo(pipe)
    with whole_file(pipe) as unfinished:
        assert unfinished == pipe


def test_a_cache_that_cannot_be_written_is_named_if_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("AGENT_RL_CACHE", str(blocked / "cache"))
    with pytest.raises(
        ValueError, match=r"file/cache: cannot be written \(.*\); .* AGENT_RL_CACHE"
    ):
        cached_folder("games", {}, lambda folder: folder.mkdir(parents=True))
    # What only saves time goes on without it; one line says so.
    for _ in range(2):
        write_cached_file(blocked / "cache" / "index" / "a.json", "{}")
    (line,) = caplog.messages
    assert "so this is read anew each time; set the environment variable AGENT_RL_CACHE" in line


def test_an_unknown_home_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RL_CACHE", "~no-such-user/cache")
    with pytest.raises(ValueError, match="set the environment variable AGENT_RL_CACHE"):
        cache_root()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "x"), True),
        (OSError(errno.EDQUOT, "x"), True),
        (OSError(errno.EACCES, "No space left on device"), False),
        (Exception("I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 5 vs 4"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_a_full_disk_is_told_and_its_file_named(
    error: Exception, full: bool, tmp_path: Path
) -> None:
    assert is_disk_full(error) is full
    with pytest.raises(type(error) if not full else OSError) as raised, naming_full_disk("a.pt"):
        raise error
    assert (raised.value is error) is not full
    if full:
        assert isinstance(raised.value, OSError)
        assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "a.pt")


def test_whether_a_lock_is_held(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_locked(lock)
    assert not lock.exists()
    with hold_lock(lock, "busy"):
        assert is_locked(lock)
    assert not is_locked(lock)
    # Asking takes nothing from who holds it next.
    with hold_lock(lock, "busy"):
        pass
