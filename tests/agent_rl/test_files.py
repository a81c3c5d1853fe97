import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.files import (
    locked,
    restore_replaced,
    set_aside,
    short_digest,
    whole_folder,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_and_json_replace_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    write_text(path, "old")
    write_json(path, {"b": [1]})
    assert path.read_text() == '{\n  "b": [\n    1\n  ]\n}\n'
    assert names(path.parent) == ["a.json"]


def test_a_value_that_is_no_json_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", object())
    assert (tmp_path / "a.json").read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_a_folder_appears_at_the_end_and_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    for text in ("one", "two"):
        with whole_folder(target, replace=True) as unfinished:
            (unfinished / text).write_text(text)
            assert not (target / text).exists()
    assert names(target) == ["two"]
    assert names(target.parent) == ["model"]


def test_a_folder_is_put_back_if_its_replacement_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "model", os.rename
    with whole_folder(target) as unfinished:
        (unfinished / "one").touch()

    def killed(old: Path, new: Path) -> None:
        if new == target:
            raise KeyboardInterrupt
        rename(old, new)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt), whole_folder(target, replace=True) as unfinished:
        (unfinished / "two").touch()
    assert not target.exists()
    monkeypatch.undo()
    for _ in range(2):
        restore_replaced(target)
        assert (names(target), names(tmp_path)) == (["one"], ["model"])


def test_files_that_are_there_are_not_replaced_unasked(tmp_path: Path) -> None:
    target = tmp_path / "model"

    def write_while_somebody_else_does() -> None:
        with whole_folder(target) as unfinished:
            (unfinished / "new").touch()
            target.mkdir()
            (target / "of-a-person").touch()

    with pytest.raises(ConfigError, match="exists already"):
        write_while_somebody_else_does()
    assert names(target) == ["of-a-person"]
    assert names(tmp_path) == ["model"]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk" / "model").mkdir(parents=True)
    (tmp_path / "model").symlink_to(tmp_path / "disk" / "model")
    with whole_folder(tmp_path / "model") as unfinished:
        (unfinished / "new").touch()
    assert (tmp_path / "model").is_symlink()
    assert names(tmp_path / "disk" / "model") == ["new"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with whole_folder(target) as unfinished:
        (unfinished / "old").touch()
    with pytest.raises(IsADirectoryError), whole_folder(target) as unfinished:
        unfinished.write_text("a folder is no file")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["model"]


def test_leftovers_of_a_killed_process_do_no_harm(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.mkdir()
    replaced = tmp_path / "model.unfinished-replaced"
    replaced.mkdir()
    (replaced / "older").touch()
    with whole_folder(target) as unfinished:
        (unfinished / "new").touch()
    assert names(target) == ["new"]
    assert names(tmp_path) == ["model"]


def test_set_aside_takes_the_next_free_name(tmp_path: Path) -> None:
    path = tmp_path / "run"
    assert set_aside(path, "before") is None
    for number in (1, 2):
        path.mkdir()
        assert set_aside(path, "before") == tmp_path / f"run.before-{number}"
    assert names(tmp_path) == ["run.before-1", "run.before-2"]


HOLDER = """
import sys, time
from pathlib import Path
from agent_rl.files import locked
with locked(Path(sys.argv[1]), "busy"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_file_system_without_locks_is_worked_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.warns(UserWarning, match="cannot be locked .*No locks"), locked(tmp_path / "l", ""):
        pass


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match="another process"), locked(lock, "another process"):
            pass
        holder.kill()
        holder.wait()
        with locked(lock, "another process", wait_seconds=10.0):
            pass


def test_equal_values_have_equal_digests() -> None:
    assert short_digest({"a": 1, "b": Path("x")}) == short_digest({"b": "x", "a": 1})
    assert short_digest({"a": 1}) != short_digest({"a": 2})
    assert len(short_digest(None)) == 8
