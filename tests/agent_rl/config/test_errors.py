from pathlib import Path

import pytest

from agent_rl.config import ConfigError, load_config, load_run_config
from agent_rl.config.errors import settings_in
from rollouts.settings import Example


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
        ("run_folder: r\nsince: 2024-99-99", "not valid YAML: month must be in 1..12"),
        ("run_folder: " + "[" * 2000, "not valid YAML: maximum recursion depth"),
        # Sections in a list, and an optional section.
        (
            "run_folder: r\nprompt: {examples: [{obs: a, action: b}]}",
            "prompt.examples.0.obs: unknown key; did you mean 'observation'?",
        ),
        (
            "run_folder: r\nprompt: {examples: [{observation: a}]}",
            "prompt.examples.0.action: missing; every prompt.examples.0 needs it",
        ),
        (
            "run_folder: r\nmodel: {load_in_8bit: true}",
            "model.load_in_8bit: unknown key; the weights that an adapter leaves frozen are kept "
            "whole",
        ),
        (
            "run_folder: r\nsweep: {seed: [1]}",
            "sweep.seed: unknown key; did you mean 'seeds'?",
        ),
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


def test_bytes_that_are_no_text_are_refused_by_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"run_folder: \xff\xfe")
    with pytest.raises(ConfigError, match=r"c\.yaml: not valid YAML: 'utf-8' codec"):
        load_config(path)


@pytest.mark.parametrize(
    "annotation", [Example, Example | None, tuple[Example, ...], dict[str, list[Example]] | None]
)
def test_the_section_in_an_annotation(annotation: object) -> None:
    assert settings_in(annotation) is Example
    assert settings_in(dict[str, int] | None) is None


def unknown_keys(value: object, place: str = "") -> list[str]:
    """A key that does not exist in each section of dumped values, by its dotted place."""
    return [f"{place}not_a_key"] * isinstance(value, dict) + [
        key
        for name, inner in (value.items() if isinstance(value, dict) else ())
        for key in unknown_keys(inner, f"{place}{name}.")
    ]


def test_an_unknown_key_of_any_section_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nprompt: {examples: [{observation: a, action: b}]}")
    places = [key for key in unknown_keys(load_config(path).model_dump()) if "options" not in key]
    assert "model.not_a_key" in places
    for key in places:
        with pytest.raises(ConfigError, match=rf"{key}: unknown key(; known keys here: \w|; did)"):
            load_config(path, [f"{key}=1"])


def test_a_misspelled_key_is_not_also_missing(tmp_path: Path) -> None:
    path = write(tmp_path, "run_folder: r\nprompt: {examples: [{obs: a, action: b}]}")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == (
        f"{path}: prompt.examples.0.obs: unknown key; did you mean 'observation'?"
    )
