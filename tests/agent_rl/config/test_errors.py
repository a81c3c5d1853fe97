from pathlib import Path

import pytest

from agent_rl.config import ConfigError, load_config, load_run_config


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "run_folder: r\ntrain: {num_generation: 8}",
            "train.num_generation: unknown key; did you mean 'num_generations'?",
        ),
        ("run_folder: r\ntrian: {}", "trian: unknown key; did you mean 'train'?"),
        (
            "run_folder: r\ntrain: {num_generations: 1}",
            "train.num_generations: 1: a group needs at least 2 episodes",
        ),
        ("run_folder: r\ntrain: {num_generations: many}", "train.num_generations: 'many': "),
        ("seed: 1", "run_folder: missing"),
        ("- a\n- b", "a config is a mapping of sections, this is list"),
        ("a: [", "not valid YAML"),
        ("run_folder: r\nseed: {}", "seed: Input should be a valid integer"),
    ],
)
def test_a_wrong_config_is_refused_by_file_key_and_remedy(
    text: str, message: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)


def test_an_old_key_is_answered_with_the_new_one(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nsft: {reading_epochs: 2}")
    with pytest.raises(
        ConfigError, match=r"sft\.reading_epochs: unknown key; it is now 'sft\.observation_epochs'"
    ):
        load_config(path)
    path = write(tmp_path, "run_folder: r")
    for load in (load_config, load_run_config):
        with pytest.raises(ConfigError, match=r"it is now 'sft\.observation_epochs'"):
            load(path, ["sft.reading_epochs=1"])


def test_an_old_option_of_alfworld_is_answered_with_the_new_one(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nenv: {id: alfworld, options: {renamed: 5}}")
    with pytest.raises(
        ConfigError, match=r"env\.options\.renamed: unknown key; it is now 'entity_permutations'"
    ):
        load_config(path)
    assert load_run_config(path).env.options == {"entity_permutations": 5}


def test_an_old_value_is_answered_with_the_new_one(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nlearner: {advantage: step_groups, aggregation: turn}")
    with pytest.raises(
        ConfigError, match=r"learner\.advantage: 'step_groups': it is now 'turn_groups'"
    ):
        load_config(path)
    assert load_run_config(path).learner.advantage == "turn_groups"
