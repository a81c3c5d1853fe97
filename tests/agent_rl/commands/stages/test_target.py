"""What `agent-rl evaluate WHAT` finds, and its messages if it finds nothing."""

import shutil
from pathlib import Path

import pytest

from agent_rl.commands.stages.target import find_target
from agent_rl.config import Config, ConfigError, dump_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was moved after it was made, a config, an export, and a model of no run."""
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "mine"
    for seed, folder in enumerate(
        ("sft", "train", "train/checkpoints/step-000010", "train/checkpoints/step-000020")
    ):
        model(run / folder / "model")
        text = dump_config(Config.model_validate({"run_folder": "/once/elsewhere", "seed": seed}))
        (run / folder / "config.yaml").write_text(text)
    model(run / "init")
    model(tmp_path / "export")
    (tmp_path / "export" / "agent_rl.yaml").write_text("{run_folder: runs/exported, seed: 7}")
    model(tmp_path / "stray")
    (tmp_path / "stray" / "q4.gguf").touch()
    (tmp_path / "c.yaml").write_text("{run_folder: runs/c, seed: 8}")
    return tmp_path


def model(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").touch()


@pytest.mark.parametrize(
    ("what", "source", "run_folder", "seed"),
    [
        ("c.yaml", None, "runs/c", 8),
        ("runs/mine", None, "runs/mine", 1),
        ("runs/mine/train/checkpoints", None, "runs/mine", 1),
        (
            "runs/mine/train/checkpoints/step-000010",
            "runs/mine/train/checkpoints/step-000010/model",
            "runs/mine",
            2,
        ),
        ("runs/mine/train/checkpoints/step-000020/model", None, "runs/mine", 3),
        ("runs/mine/sft", "runs/mine/sft/model", "runs/mine", 0),
        ("runs/mine/sft/model", "runs/mine/sft/model", "runs/mine", 0),
        ("runs/mine/init", "runs/mine/init", "runs/mine", 1),
        ("export", "export", "runs/exported", 7),
    ],
)
def test_what_has_its_config_with_it(
    what: str, source: str | None, run_folder: str, seed: int, here: Path
) -> None:
    target = find_target(what)
    assert target.model == (what if what.endswith("20/model") else source)
    assert (target.config.run_folder, target.config.seed, target.player) == (run_folder, seed, None)
    elsewhere = find_target(what, ["run_folder=runs/other", "seed=9"]).config
    assert (elsewhere.run_folder, elsewhere.seed) == ("runs/other", 9)


def test_train_is_the_run_and_not_its_model(here: Path) -> None:
    (here / "runs/mine/train/model/config.json").unlink()
    target = find_target(str(here / "runs/mine/train"))
    assert (target.model, target.config.run_folder) == (None, "runs/mine")


@pytest.mark.parametrize(
    "what", ["stray", "stray/q4.gguf", "./expert", "Qwen/Qwen2.5-1.5B-Instruct"]
)
def test_what_has_none_needs_one(what: str, here: Path) -> None:
    model(here / "expert")
    with pytest.raises(ConfigError, match="--config FILE"):
        find_target(what)
    target = find_target(what, config_file=Path("c.yaml"))
    assert (target.model, target.player) == (what.removeprefix("./"), None)
    assert (target.config.run_folder, target.config.seed) == ("runs/c", 8)


def test_a_run_that_ended_with_its_warm_start(here: Path) -> None:
    shutil.rmtree(here / "runs/mine/train")
    target = find_target("runs/mine")
    assert (target.model, target.config.seed, target.config.run_folder) == (None, 0, "runs/mine")


def test_a_named_config_stands_over_the_runs_own(here: Path) -> None:
    target = find_target("runs/mine/sft", config_file=Path("c.yaml"))
    assert (target.config.seed, target.config.run_folder) == (8, "runs/mine")


def test_recorded_configs_may_have_old_keys(here: Path) -> None:
    old = "{run_folder: r, sft: {reading_epochs: 2}}"
    recorded = here / "runs" / "mine" / "sft" / "config.yaml"
    for path in (recorded, here / "export" / "agent_rl.yaml", here / "old.yaml"):
        path.write_text(old)
    named = find_target("stray", config_file=Path("old.yaml")).config
    on_hub = find_target("someone/policy", config_file=Path("export/agent_rl.yaml")).config
    around = [find_target(what).config for what in ("runs/mine/sft", "export")]
    # A model card tells people to name an export's config directly.
    direct = find_target("export/agent_rl.yaml", model="export").config
    for_player = find_target("expert", config_file=Path("old.yaml")).config
    configs = (named, on_hub, *around, direct, for_player)
    assert [config.sft.observation_epochs for config in configs] == [2] * 6
    with pytest.raises(ConfigError, match=r"it is now 'sft\.observation_epochs'"):
        find_target("old.yaml")


def test_a_config_with_a_model_or_a_player(here: Path) -> None:
    target = find_target("c.yaml", model="stray")
    assert (target.model, target.player, target.config.run_folder) == ("stray", None, "runs/c")
    target = find_target("c.yaml", model="random")
    assert (target.model, target.player) == (None, "random")


def test_players_have_defaults_to_play_under(here: Path) -> None:
    target = find_target("expert")
    assert (target.player, target.model) == ("expert", None)
    env = target.config.env
    assert (env.id, env.options) == ("alfworld", {"data": "$ALFWORLD_DATA"})
    assert (target.config.run_folder, target.config.episode.max_turns) == ("runs/baselines", 50)
    other = find_target(
        "random", ["env.id=taxi", "episode.max_turns=9", "evaluation.split=a,b"]
    ).config
    assert (other.env.id, other.env.options, other.episode.max_turns) == ("taxi", {}, 9)
    assert other.evaluation.split == ("a", "b")
    generated = find_target(
        "random", ["env.options.data=generated", "env.options.games.train=3"]
    ).config
    assert generated.env.options == {"data": "generated", "games": {"train": 3}}
    assert find_target("expert", config_file=Path("c.yaml")).config.seed == 8


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        ("nowhere.yaml", {}, "nowhere.yaml: no such config file; there are: c.yaml"),
        (
            "c.yaml",
            {"config_file": Path("c.yaml")},
            "--config c.yaml: c.yaml is a config already; name one of the two",
        ),
        ("stray", {"model": "export"}, "--model export: needs a config, and stray is none"),
        (
            "expret",
            {},
            "expret: no such file or folder, and not one of expert, random; "
            "did you mean 'expert'?; "
            "if it is a model of the hub",
        ),
        (
            "runs",
            {},
            r"runs: holds no model \(config.json\) and is no run's folder \(init, sft, train\)",
        ),
        ("runs/mine/sft/config.json", {}, "sft/config.json: no such file or folder"),
        (
            "stray/config.json",
            {},
            r"stray/config.json: is no config \(.yaml\) and no model \(.gguf, or a folder\)",
        ),
        (
            "expert",
            {"overrides": ["evaluation.task=3"]},
            "evaluation.task: unknown key; did you mean 'tasks'?",
        ),
        (
            "expert",
            {"overrides": ["evaluation.repeats=0"]},
            "evaluation.repeats: 0: Input should be greater than",
        ),
        (
            "runs/mine",
            {"overrides": ["seeds=3"]},
            "runs/mine/train/config.yaml: seeds: unknown key; did you mean",
        ),
    ],
)
def test_what_is_wrong_is_named(
    what: str, options: dict[str, object], message: str, here: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        find_target(what, **options)  # type: ignore[arg-type]
    assert message.replace("\\", "") in str(raised.value)


FOREIGN = "{run_folder: run, env: {id: 'no_such_module:World'}}"


@pytest.mark.parametrize(
    ("what", "file"),
    [
        ("export", "export/agent_rl.yaml"),
        ("got/model", "got/model/config.yaml"),
        ("got/model", "got/config.yaml"),
        ("got/model", "got/agent_rl.yaml"),
        ("got/model", "got/train/config.yaml"),
        ("got/model", "config.yaml"),
        ("runs/mine", "runs/mine/train/config.yaml"),
    ],
)
def test_a_config_that_is_found_may_not_name_code(what: str, file: str, here: Path) -> None:
    model(here / "got" / "model")
    (here / file).parent.mkdir(exist_ok=True)
    (here / file).write_text(FOREIGN)
    with pytest.raises(ConfigError) as refused:
        find_target(what)
    assert str(refused.value).startswith(f"{file}: env.id: 'no_such_module:World': it is code")
    assert "If you trust it, add --trust-env, or env.id=no_such_module:World" in str(refused.value)
    trusted = [
        find_target(what, trust_env=True),
        find_target(what, ["env.id=no_such_module:World"]),
    ]
    assert [target.config.env.id for target in trusted] == ["no_such_module:World"] * 2


def test_a_config_that_a_person_names_may_name_code(here: Path) -> None:
    (here / "mine.yaml").write_text(FOREIGN)
    for what in ("stray", "random", "someone/policy"):
        assert find_target(what, config_file=Path("mine.yaml")).config.env.id.endswith(":World")
    (here / "export" / "agent_rl.yaml").write_text(FOREIGN)
    for what in ("stray", "random", "someone/policy"):
        with pytest.raises(ConfigError, match="--trust-env"):
            find_target(what, config_file=Path("export/agent_rl.yaml"))
    with pytest.raises(ConfigError, match="--trust-env"):
        find_target("export/agent_rl.yaml", model="export")


def test_a_checkpoint_without_its_model_does_not_stand_for_the_newest_policy(here: Path) -> None:
    step = here / "runs/mine/train/checkpoints/step-000010"
    (step / "model/config.json").unlink()
    for path in (step, step / "model"):
        with pytest.raises(ConfigError, match=r"step-000010.*: holds no model \(config\.json\)"):
            find_target(str(path))


def test_an_adapter_is_a_policy(here: Path) -> None:
    adapter = here / "runs/mine/train/checkpoints/step-000010/model/adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert find_target(str(adapter)).model == str(adapter)
