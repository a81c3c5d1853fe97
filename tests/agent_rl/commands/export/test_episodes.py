import json
from pathlib import Path

import pytest

from agent_rl.commands.export.chosen_episodes import Choice
from agent_rl.commands.export.episodes import export_episodes
from agent_rl.config import ConfigError
from agent_rl.runs.chat_files import read_chats
from tests.builders.atif import assert_atif
from tests.builders.command_line import CommandLine
from tests.builders.stored_runs import stored_run


def test_lines_of_both_formats_and_a_folder(tmp_path: Path) -> None:
    run = stored_run(tmp_path / "r")
    messages = export_episodes(run.folder, "messages")
    assert messages == run.exported_episodes / "messages.jsonl"
    lines = [json.loads(line) for line in messages.read_text().splitlines()]
    assert [line["id"] for line in lines][-1] == "2/2/2"
    assert len(lines) == 8
    assert lines[0]["messages"][0] == {"role": "system", "content": "Answer with one command."}

    atif = export_episodes(run.train.folder, "atif")  # RUN/train stands for RUN
    records = [json.loads(line) for line in atif.read_text().splitlines()]
    for record in records:
        assert_atif(record)
    assert [chat.turns for chat in read_chats(atif)] == [c.turns for c in read_chats(messages)]

    folder = export_episodes(
        run.folder, "atif", output=tmp_path / "one", choice=Choice(steps=((1, 1),), success=True)
    )
    assert sorted(path.name for path in folder.iterdir()) == ["1-1-1.json", "1-2-1.json"]
    assert_atif(json.loads((folder / "1-1-1.json").read_text()))


def test_the_command_counts_and_filters(tmp_path: Path, command_line: CommandLine) -> None:
    run = stored_run(tmp_path / "r").folder
    out = tmp_path / "x.jsonl"
    ended = command_line("export-episodes", run, "--step", "2", "--failure", "--output", out)
    assert (ended.status, ended.err) == (0, "")
    assert "2 of 5 episodes" in ended.out
    assert "1 in which the environment or the engine failed" in ended.out
    assert [json.loads(line)["success"] for line in out.read_text().splitlines()] == [False, False]
    ended = command_line("export-episodes", run, "--family", "lok")
    assert ended.status == 2
    assert ended.err.startswith("error: --family lok: is none of look, pick")


def test_a_name_that_does_not_fit_the_format_is_refused(tmp_path: Path) -> None:
    run = stored_run(tmp_path / "r").folder
    with pytest.raises(ConfigError, match=r"with --format messages write the name of a \.jsonl"):
        export_episodes(run, "messages", output=tmp_path / "x.json")


def test_without_a_token_the_upload_is_refused_and_the_data_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stored_run(tmp_path / "r")
    monkeypatch.setattr("agent_rl.commands.export.folder.get_token", lambda: None)
    with pytest.raises(ConfigError, match=r"no token; log in with.*--repo-type dataset o/n"):
        export_episodes(run.folder, "messages", hub="o/n")
    names = sorted(path.name for path in (run.exported_episodes / "hub").iterdir())
    assert names == ["README.md", "messages.jsonl"]
    with pytest.raises(ConfigError, match="is no repository's name"):
        export_episodes(run.folder, "messages", hub="a b")
