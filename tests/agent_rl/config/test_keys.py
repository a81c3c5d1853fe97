from agent_rl.config import Config
from agent_rl.config.keys import (
    EXECUTION_KEYS,
    RENAMED_KEYS,
    UNCOMPARED_SECTIONS,
    changed_values,
    flat_values,
    upgraded,
)


def test_flat_values() -> None:
    values = flat_values(
        Config.model_validate({"run_folder": "r", "env": {"options": {"games": {"train": 4}}}})
    )
    assert values["env.options.games.train"] == 4
    assert values["train.only.families"] == []
    assert values["learner.epsilon"] is None


def test_keys_that_change_no_result_exist() -> None:
    assert set(EXECUTION_KEYS) <= flat_values(Config(run_folder="r")).keys()


def test_old_keys_are_gone_and_new_ones_exist() -> None:
    known = flat_values(Config(run_folder="r")).keys()
    assert not known & RENAMED_KEYS.keys()
    assert known >= set(RENAMED_KEYS.values())


def test_recorded_values_move_to_their_new_keys() -> None:
    recorded = {"seed": 3, "sft": {"reading_epochs": 2, "epochs": 3}}
    assert upgraded(recorded) == {"seed": 3, "sft": {"observation_epochs": 2, "epochs": 3}}
    assert recorded["sft"] == {"reading_epochs": 2, "epochs": 3}


def test_values_that_are_no_mapping_of_sections_stay() -> None:
    assert upgraded({"sft": 4, "learner": None}) == {"sft": 4, "learner": None}


def test_options_of_alfworld_move_to_their_new_names() -> None:
    recorded = {"env": {"id": "alfworld", "options": {"renamed": 5, "expert": True}}}
    assert upgraded(recorded)["env"]["options"] == {"entity_permutations": 5, "expert": True}
    other = {"env": {"id": "mine:Env", "options": {"renamed": 5}}}
    assert upgraded(other) == other


def test_runs_that_differ_in_their_trackers_are_alike() -> None:
    config = Config.model_validate({"run_folder": "r", "tracking": {"trackers": "wandb"}})
    assert changed_values(flat_values(Config(run_folder="r")), flat_values(config)) == {}
    assert set(UNCOMPARED_SECTIONS) <= set(Config.model_fields)
