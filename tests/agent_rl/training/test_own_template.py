"""A template of the user's own reaches every process of a run, and stays with what it saves."""

import pickle
from functools import partial
from pathlib import Path

import pytest

from agent_rl.commands.stages.sft import sft
from agent_rl.config import Config
from agent_rl.policy.loading import load_policy
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trajectories import load_trajectories
from agent_rl.training.own_template import own_template_has_changed, with_own_template
from rollouts import PromptSettings
from tests.builders.chat_templates import HYBRID
from tests.builders.models import save_policy

OWN = "Own. " + HYBRID


@pytest.fixture
def prompt(tmp_path: Path) -> PromptSettings:
    (tmp_path / "own.jinja").write_text(OWN)
    return PromptSettings(
        format="chat",
        template=str(tmp_path / "own.jinja"),
        template_options={"enable_thinking": False},
    )


def test_a_loader_takes_the_text_with_it(tmp_path: Path, prompt: PromptSettings) -> None:
    load = partial(load_policy, str(save_policy(tmp_path / "model", 0)))
    assert with_own_template(load, PromptSettings()) is load
    sent = pickle.dumps(with_own_template(load, prompt))
    Path(prompt.template).unlink()
    assert pickle.loads(sent)()[1].chat_template == OWN
    with pytest.raises(ValueError, match=r"^prompt\.template: .*no such file"):
        with_own_template(load, prompt)


def test_a_file_that_has_changed_since_is_noticed(tmp_path: Path, prompt: PromptSettings) -> None:
    policy = tmp_path / "model"
    tokenizer = load_policy(str(save_policy(policy, 0)))[1]
    assert not own_template_has_changed(policy, prompt)  # it had none
    tokenizer.chat_template = OWN
    tokenizer.save_pretrained(policy)
    assert not own_template_has_changed(policy, prompt)
    Path(prompt.template).write_text(OWN + " ")
    assert own_template_has_changed(policy, prompt)
    assert not own_template_has_changed(policy, PromptSettings())


@pytest.mark.slow
@pytest.mark.process
def test_workers_and_learner_have_it(
    tmp_path: Path, prompt: PromptSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = {
        "run_folder": str(tmp_path / "run"),
        "model": {"path": str(save_policy(tmp_path / "model", 0))},
        "env": {"id": "tests.builders.number_env:NumberEnv"},
        # A path that only the driver's working folder makes right.
        "prompt": {**prompt.model_dump(), "template": "own.jinja"},
        "episode": {"max_turns": 4},
        "workers": {"count": 1},
        "sft": {"episodes": 2, "epochs": 1},
        "learner": {"threads": 1},
    }
    saved = sft(Config.model_validate(values))
    tokenizer = load_policy(str(saved))[1]
    assert tokenizer.chat_template == OWN
    episode = load_trajectories(RunLayout(tmp_path / "run").sft.expert_episodes)[0]
    text = str(tokenizer.decode([*episode.token_ids]))
    assert text.startswith("Own. <|im_start|>user\n")
    assert text.count("<|im_start|>assistant\n<think>\n\n</think>\n\nguess ") == len(episode.turns)
