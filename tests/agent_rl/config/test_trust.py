"""Which configs may name code: none that came with a model, without a word from a person."""

from pathlib import Path

import pytest

from agent_rl.config import Config, ConfigError, load_config
from agent_rl.config.trust import came_with_model, refuse_foreign_code

FOREIGN = "{run_folder: run, env: {id: 'os:system', options: {command: 'true'}}}"


def config(**env: object) -> Config:
    return Config.model_validate({"run_folder": "run", "env": env})


@pytest.mark.parametrize("beside", ["config.json", "adapter_config.json"])
def test_a_config_comes_with_a_model_by_its_name_or_its_place(beside: str, tmp_path: Path) -> None:
    assert came_with_model(tmp_path / "agent_rl.yaml")
    assert not came_with_model(tmp_path / "config.yaml")
    (tmp_path / beside).touch()
    assert came_with_model(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    "env_id", ["os:system", "no_such_module:Door", "FrozenLake-v1", "gymnasium:FrozenLake-v1"]
)
def test_an_environment_without_a_name_is_refused(env_id: str) -> None:
    with pytest.raises(ConfigError) as refused:
        refuse_foreign_code(config(id=env_id), Path("m/agent_rl.yaml"), option="--trust-env")
    assert str(refused.value).startswith(f"m/agent_rl.yaml: env.id: {env_id!r}: it is code")
    assert str(refused.value).endswith(f"If you trust it, add --trust-env, or env.id={env_id}")
    # What a person types, they name themselves.
    refuse_foreign_code(config(id=env_id), Path("c.yaml"), [f"env.id={env_id}"])
    refuse_foreign_code(config(id=env_id), Path("c.yaml"), [f"env={{id: {env_id}}}"])
    with pytest.raises(ConfigError, match=f"If you trust it, add env.id={env_id}$"):
        refuse_foreign_code(config(id=env_id), Path("c.yaml"), ["env.idle=1", "seed=2"])


@pytest.mark.parametrize("env_id", ["alfworld", "textworld", "textarena", "taxi"])
def test_built_in_environments_are_for_all(env_id: str) -> None:
    refuse_foreign_code(config(id=env_id), Path("c.yaml"))


def test_files_that_are_run_are_named_by_a_person() -> None:
    played = config(id="textworld", options={"data": "games"})
    with pytest.raises(ConfigError, match=r"c\.yaml: env\.options\.data: 'games': an interpreter"):
        refuse_foreign_code(played, Path("c.yaml"))
    refuse_foreign_code(played, Path("c.yaml"), ["env.options.data=games"])
    refuse_foreign_code(config(id="textworld", options={"data": "generated"}), Path("c.yaml"))
    refuse_foreign_code(config(id="alfworld", options={"data": "games"}), Path("c.yaml"))


def test_the_function_of_a_history_is_named_by_a_person() -> None:
    values = {"run_folder": "run", "env": {"id": "taxi"}, "prompt": {"history": "os:getcwd"}}
    named = Config.model_validate(values)
    with pytest.raises(ConfigError, match=r"c\.yaml: prompt\.history: 'os:getcwd': it is code;"):
        refuse_foreign_code(named, Path("c.yaml"))
    refuse_foreign_code(named, Path("c.yaml"), ["prompt.history=os:getcwd"])
    own = Config.model_validate({**values, "prompt": {"history": "window"}})
    refuse_foreign_code(own, Path("c.yaml"))


def test_a_named_file_is_trusted_unless_it_came_with_a_model(tmp_path: Path) -> None:
    for name in ("mine.yaml", "agent_rl.yaml"):
        (tmp_path / name).write_text(FOREIGN)
    assert load_config(tmp_path / "mine.yaml").env.id == "os:system"
    with pytest.raises(ConfigError, match=r"If you trust it, add env\.id=os:system$"):
        load_config(tmp_path / "agent_rl.yaml")
    with pytest.raises(ConfigError, match="add --trust-env, or"):
        load_config(tmp_path / "agent_rl.yaml", trust_env=False)
    assert load_config(tmp_path / "agent_rl.yaml", trust_env=True).env.id == "os:system"
    assert load_config(tmp_path / "agent_rl.yaml", ["env.id=taxi"]).env.id == "taxi"
