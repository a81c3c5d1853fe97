import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent_rl.config import Config, ConfigError
from agent_rl.runs.chats import messages_record
from agent_rl.training.session import Session
from agent_rl.training.written_episodes import episodes_of_file
from rollouts.renderer import byte_renderer
from tests.builders.stored_runs import LOOK, lost, won


def session(context_length: int = 1000) -> Session:
    """A session as far as a file needs one: its policy reads and writes bytes."""
    parts = SimpleNamespace(renderer=byte_renderer, context_length=lambda: context_length)
    return cast("Session", parts)


def config_of(path: Path, **sections: Any) -> Config:
    values = {"run_folder": "r", "sft": {"episodes_file": str(path)}, **sections}
    return Config.model_validate(values)


def test_each_line_is_an_episode_in_the_policys_tokens(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    records = [messages_record(e, episode_id="1", system="") for e in (won(LOOK), lost(LOOK))]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    first, second = episodes_of_file(config_of(path), session())
    assert (first.success, second.success) == (True, False)
    assert (first.task.id, first.task.family) == ("look1", "look")
    (turn,) = first.turns  # the refused command is shown in the prompt
    shown = bytes(i for i in turn.prompt_token_ids if i < 256).decode()
    assert shown == "You see a desk 1.\n> fly\nNothing happens.\n> "
    assert bytes(turn.completion.token_ids[:-1]) == b"take mug 3"
    with pytest.raises(ConfigError, match=r"e\.jsonl:1: no answer to learn fits"):
        episodes_of_file(config_of(path), session(context_length=10))
    with pytest.raises(ConfigError, match=r"e\.jsonl:1: answer 2 takes 11 tokens"):
        episodes_of_file(config_of(path, episode={"max_action_tokens": 10}), session())


def test_nobody_sums_up_in_a_file(tmp_path: Path) -> None:
    config = config_of(tmp_path / "e.jsonl", prompt={"history": "summary"})
    with pytest.raises(ConfigError, match=r"prompt\.history: summary: the answers of a file"):
        episodes_of_file(config, session())
