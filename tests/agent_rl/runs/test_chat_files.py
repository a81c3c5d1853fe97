import json
from pathlib import Path

import pytest

from agent_rl.config import ConfigError
from agent_rl.runs.atif import AtifSource, atif_record
from agent_rl.runs.chat_files import read_chats
from agent_rl.runs.chats import messages_record
from rollouts import PromptSettings
from tests.builders.stored_runs import LOOK, won

MESSAGES = messages_record(won(LOOK), episode_id="1/1/1", system="")
ATIF = atif_record(
    won(LOOK),
    episode_id="1/1/1",
    source=AtifSource(run="r", model="m", prompt=PromptSettings()),
)


def test_lines_of_both_formats_and_a_folder_of_files(tmp_path: Path) -> None:
    lines = tmp_path / "episodes.jsonl"
    lines.write_text(f"{json.dumps(MESSAGES)}\n\n{json.dumps(ATIF)}\n")
    first, second = read_chats(lines)
    assert first.turns == second.turns
    assert (first.place, second.place) == (f"{lines}:1", f"{lines}:3")
    (tmp_path / "folder").mkdir()
    single = tmp_path / "folder" / "1.json"
    single.write_text(json.dumps(ATIF, indent=2))
    (read,) = read_chats(tmp_path / "folder")
    assert read.place == str(single)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"e\.jsonl:1: not valid JSON"),
        ('{"text": "a"}', r"e\.jsonl:1: not an episode: messages: Field required"),
        ('{"messages": [{"role": "tool", "content": "a"}]}', r"messages\.0\.role"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "without a user's before it"),
        ('{"messages": []}', "no answer in it is to be learned"),
        ("[1]", "not an episode"),
        ("\n", "holds no episode"),
    ],
)
def test_a_fault_names_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_chats(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ConfigError, match="no such file of episodes"):
            read_chats(path)
