"""A user's mistakes: exit status 2, and one message that names the mistake and the way out."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import MistralConfig, MistralForCausalLM
from typer.testing import CliRunner

from agent_rl import cli
from agent_rl.commands.stages.init import init
from agent_rl.commands.stages.start import locked_run
from agent_rl.config import load_config
from agent_rl.objective.presets import PRESETS
from agent_rl.runs.ending import read_end
from agent_rl.runs.layout import RunLayout
from agent_rl.training import session
from envs.alfworld.generator.generate import GeneratorSettings, generate_games
from tests.builders.models import make_tokenizer
from tests.builders.runs import write_checkpoint

CONFIG = """
run_folder: {folder}/run
env:
  options: {{data: $ALFWORLD_DATA}}
model:
  {{vocab_size: 300, hidden_size: 32, layers: 1, heads: 1, kv_heads: 1, context_length: 512,
    corpus_tasks: 1}}
episode: {{max_turns: 20, max_action_tokens: 40}}
workers: {{count: 1, envs_per_worker: 1}}
sft: {{episodes: 1, epochs: 1}}
train: {{tasks_per_step: 2, num_generations: 2}}
"""
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real games of the training split."""
    folder = tmp_path_factory.mktemp("games") / "data"
    small = {"receptacles": (3, 3), "objects": (3, 3), "copies": 1}
    generate_games(
        folder,
        GeneratorSettings.from_mapping({"train": 2, "valid_seen": 0, "valid_unseen": 0, **small}),
    )
    return folder


@pytest.fixture(scope="module")
def made_policy(games: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a policy that `init` made."""
    folder = tmp_path_factory.mktemp("policy")
    path = folder / "c.yaml"
    path.write_text(CONFIG.format(folder=folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENT_RL_CACHE", str(folder))
        patch.setenv("ALFWORLD_DATA", str(games))
        return init(load_config(path))


@pytest.fixture
def config(tmp_path: Path, games: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config without a policy yet; `$ALFWORLD_DATA` is set."""
    monkeypatch.setenv("AGENT_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ALFWORLD_DATA", str(games))
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def config_with_policy(config: Path, made_policy: Path, tmp_path: Path) -> Path:
    shutil.copytree(made_policy, tmp_path / "run" / "init")
    return config


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line that must be refused; returns its message."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["agent-rl", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ")
        assert message.count("error:") == 1
        assert "Traceback" not in message
        return message

    return run


@pytest.mark.process
def test_a_typo_in_a_key_is_one_line_on_stderr(config: Path) -> None:
    command = [sys.executable, "-m", "agent_rl.cli", "train", str(config), "train.num_generation=8"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert (
        ended.stderr
        == f"error: {config}: train.num_generation: unknown key; did you mean 'num_generations'?\n"
    )


def test_a_group_of_one(config: Path, refused: Refused) -> None:
    message = refused("train", config, "train.num_generations=1")
    assert f"{config}: train.num_generations: 1: a group needs at least 2 episodes" in message


@pytest.mark.parametrize("command", ["init", "sft", "train", "evaluate"])
def test_every_command_checks_its_config(command: str, tmp_path: Path, refused: Refused) -> None:
    assert f"{tmp_path}/nowhere.yaml: no such config file" in refused(
        command, tmp_path / "nowhere.yaml"
    )


def test_a_model_folder_that_does_not_exist(config: Path, refused: Refused) -> None:
    message = refused("evaluate", config, "--model", "./nowhere")
    assert (
        message
        == "error: model nowhere: no such file or folder; `agent-rl init` makes one, or give a hub "
        "name"
    )


def test_a_model_folder_without_a_model(config: Path, tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "empty").mkdir()
    message = refused("train", config, f"model.path={tmp_path / 'empty'}")
    assert f"model {tmp_path / 'empty'}: has no config.json" in message


@pytest.mark.parametrize("command", ["sft", "train", "evaluate"])
def test_a_template_is_judged_before_any_process_starts(
    command: str, config_with_policy: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "open_pool", None)
    message = refused(command, config_with_policy, "prompt.format=chat", "evaluation.split=train")
    assert message.splitlines()[-1] == (
        "error: prompt.format: chat needs a tokenizer with a chat template; this one has none; set "
        "prompt.format: plain, or use a model with another chat template, or give one in "
        "prompt.template"
    )


def test_no_policy_yet(config: Path, tmp_path: Path, refused: Refused) -> None:
    for command in ("sft", "train", "evaluate"):
        message = refused(command, config)
        assert (
            f"run_folder {tmp_path}/run: holds no policy yet; make one with `agent-rl init CONFIG`"
            in message
        )


@pytest.mark.parametrize(("value", "state"), [(None, "not set"), ("", "empty")])
def test_no_alfworld_data(
    value: str | None, state: str, config: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("ALFWORLD_DATA")
    else:
        monkeypatch.setenv("ALFWORLD_DATA", value)
    message = refused("init", config)
    assert (
        f"data: '$ALFWORLD_DATA': the environment variable ALFWORLD_DATA is {state}; generate games"
        in message
    )
    assert "agent-rl games generate" in message


def test_an_alfworld_data_folder_without_games(
    config: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path))
    for arguments in (("init", config), ("games", "info", "$ALFWORLD_DATA")):
        message = refused(*arguments)
        assert f"data: no solvable game under '{tmp_path}/train'; generate games" in message


def test_a_split_that_is_not_there(config_with_policy: Path, refused: Refused) -> None:
    message = refused("evaluate", config_with_policy)
    assert message.startswith("error: split 'valid_seen': data: no solvable game under ")
    assert "/valid_seen'; generate games" in message
    assert message.endswith("; splits with tasks: train")
    message = refused("evaluate", config_with_policy, "--split", "train,test")
    assert message == (
        "error: split 'test': environment 'alfworld' has no such split; there are: train, "
        "valid_seen, valid_unseen"
    )
    message = refused("evaluate", config_with_policy, "--split", "train,train")
    assert (
        f"{config_with_policy}: evaluation.split: 'train,train': write the names of different "
        "splits" in message
    )


def test_what_is_to_be_evaluated(
    config_with_policy: Path, tmp_path: Path, refused: Refused
) -> None:
    """The config is found by the policy's place; `commands/stages/test_target.py` has the rest."""
    policy = tmp_path / "run" / "init"
    assert refused("evaluate", policy) == (
        f"error: {policy}: there is no run's config beside it or above it; name one with --config "
        "FILE"
    )
    arguments = ("--config", config_with_policy, "--split", "test")
    assert "split 'test': environment 'alfworld' has no such split" in refused(
        "evaluate", policy, *arguments
    )
    assert "split 'test': environment 'alfworld' has no such split" in refused(
        "evaluate", "random", "--split", "test"
    )
    assert "did you mean 'random'?" in refused("evaluate", "randm")


def test_a_game_file_cut_in_half(
    config_with_policy: Path,
    games: Path,
    tmp_path: Path,
    refused: Refused,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = sorted(games.rglob("game.tw-pddl"))[0]
    cut = tmp_path / "data" / whole.relative_to(games)
    cut.parent.mkdir(parents=True)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "data"))
    evaluate, listing = ("evaluate", config_with_policy), ("games", "list", "$ALFWORLD_DATA")
    for arguments in (
        ("train", config_with_policy),
        (*evaluate, "--split", "train"),
        (*listing, "--split", "train"),
    ):
        message = refused(*arguments)
        assert f"{cut}: not a usable ALFWorld game (Unterminated string" in message
        assert "delete it, or download or generate it again" in message
        if arguments[0] == "train":
            end = read_end(RunLayout(tmp_path / "run"))
            assert end is not None
            assert (end.state, f"error: {end.reason}") == ("failed", message.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.process
def test_a_prompt_longer_than_the_context(
    config_with_policy: Path, tmp_path: Path, refused: Refused
) -> None:
    """The expert's process meets it, over Ray; the failed start leaves no run that would block the
    next one.
    """
    message = refused("sft", config_with_policy, "serving.context_length=64")
    assert "the first prompt has " in message
    assert "an action up to 40 (episode.max_action_tokens), but the context holds 64" in message
    assert "raise serving.context_length" in message
    assert (tmp_path / "run" / "sft" / "metrics.jsonl").is_file()
    message = refused("sft", config_with_policy, "serving.context_length=513")
    assert "serving.context_length: 513 is more than the 512 positions of the model" in message
    assert "set at most 512" in message


def test_a_folder_that_is_taken(config_with_policy: Path, tmp_path: Path, refused: Refused) -> None:
    message = refused("init", config_with_policy)
    assert f"{tmp_path}/run/init: exists already; go on with `agent-rl sft CONFIG`" in message
    write_checkpoint(tmp_path / "run", 3)
    message = refused("train", config_with_policy)
    assert f"{tmp_path}/run/train: holds a run already, with step-000003; resume it" in message
    assert "`agent-rl train CONFIG --resume`, or delete the folder, or name another" in message
    (tmp_path / "run" / "sft" / "model").mkdir(parents=True)
    message = refused("sft", config_with_policy)
    assert f"{tmp_path}/run/sft: holds a warm start already; go on with `agent-rl train" in message


def test_an_unfinished_warm_start_is_not_passed_over(
    config_with_policy: Path, tmp_path: Path, refused: Refused
) -> None:
    folder = tmp_path / "run" / "sft"
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')
    for arguments in (["train"], ["train", "--resume"], ["evaluate"]):
        message = refused(arguments[0], config_with_policy, *arguments[1:])
        assert f"{folder}: the warm start is unfinished; go on with `agent-rl sft" in message
    assert (folder / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_run_folder_in_use(config_with_policy: Path, tmp_path: Path, refused: Refused) -> None:
    with locked_run(RunLayout(tmp_path / "run")):
        before = sorted((tmp_path / "run").rglob("*"))
        for arguments in (["init"], ["sft"], ["train"], ["train", "--resume"], ["demo"]):
            message = refused(arguments[0], config_with_policy, *arguments[1:])
            assert f"{tmp_path}/run: in use, another process trains in this run folder" in message
        assert sorted((tmp_path / "run").rglob("*")) == before


def test_no_config_runs_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "{run_folder: run, env: {id: 'os:system', options: {command: 'touch mark'}}}"
    Path("mark.yaml").write_text(text)
    Path("got/model").mkdir(parents=True)
    for name in ("config.json", "agent_rl.yaml"):
        Path("got/model", name).write_text(text)
    for command_line in (
        ("init", "mark.yaml"),
        ("play", "mark.yaml", "--policy", "random"),
        ("play", "os:system", "command=touch mark"),
        ("envs", "check", "os:system", "command=touch mark"),
        ("evaluate", "random", "--config", "mark.yaml"),
    ):
        assert "'os:system' is a function, not a class" in refused(*command_line)
    for command_line in (
        ("evaluate", "got/model"),
        ("play", "got/model/agent_rl.yaml", "--policy", "got/model"),
    ):
        assert "If you trust it, add --trust-env, or env.id=os:system" in refused(*command_line)
    assert not Path("mark").exists()


def test_the_help_of_train_names_every_objective() -> None:
    shown = CliRunner().invoke(cli.app, ["train", "--help"]).output
    for objective in PRESETS:
        assert objective in shown


def test_a_window_shorter_than_an_episode_is_refused_before_anything_is_played(
    config: Path, tmp_path: Path, refused: Refused
) -> None:
    mistral = MistralConfig(
        vocab_size=304,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        max_position_embeddings=512,
        sliding_window=16,
    )
    MistralForCausalLM(mistral).save_pretrained(tmp_path / "mistral")  # type: ignore[no-untyped-call]
    make_tokenizer().save_pretrained(tmp_path / "mistral")
    message = refused("sft", config, f"model.path={tmp_path / 'mistral'}")
    assert "its attention reaches back 16 tokens (sliding_window)" in message
    assert "set serving.context_length to at most 16" in message
