from pathlib import Path

import pytest

from agent_rl.config import ConfigError, dump_config, load_config, load_run_config, read_options
from tests.builders.paths import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert load_config(write(tmp_path, dump_config(config))) == config


def test_overrides_are_yaml_values_by_path(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\ntrain: {num_generations: 4}")
    config = load_config(
        path,
        [
            "train.num_generations=6",
            "learner.learning_rate=1e-4",
            "env.options.data=$ALFWORLD_DATA",
        ],
    )
    assert config.train.num_generations == 6
    assert config.learner.learning_rate == 1e-4
    assert config.env.options == {"data": "$ALFWORLD_DATA"}


def test_a_missing_config_names_those_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "run_folder: r")
    with pytest.raises(ConfigError, match=r"no such config file; there are: .*c\.yaml"):
        load_config(tmp_path / "d.yaml")


def test_an_override_without_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"write key\.path=value"):
        load_config(write(tmp_path, "run_folder: r"), ["train.num_generations"])
    with pytest.raises(ConfigError, match="'seed' is a value, not a section"):
        load_config(write(tmp_path, "run_folder: r\nseed: 1"), ["seed.x=1"])


def test_options_are_yaml_and_may_go_down() -> None:
    values = read_options(["size=8", "games.train=4", "games.settings={level: 3}", "data=~/games"])
    assert values == {"size": 8, "games": {"train": 4, "settings": {"level": 3}}, "data": "~/games"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["size"], r"'size': write key(\.path)?=value, for example"),
        (["=3"], r"'=3': write key(\.path)?=value"),
        (["size.=3"], r"'size\.=3': write key(\.path)?=value"),
        (["games=["], "'games=.': the value is not valid YAML"),
        (["since=2024-99-99"], "'since=2024-99-99': the value is not valid YAML"),
        (["games=3", "games.train=4"], "'games.train=4': 'games' is a value, not a section"),
    ],
)
def test_other_forms_of_settings_are_refused(
    settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_options(settings)
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, "run_folder: r\nenv: {}"), settings)


def test_a_recorded_config_with_old_keys_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nsft: {reading_epochs: 2, epochs: 3}")
    config = load_run_config(path, ["sft.epochs=5"])
    assert (config.sft.observation_epochs, config.sft.epochs) == (2, 5)
