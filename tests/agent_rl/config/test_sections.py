import pytest
from pydantic import ValidationError

from agent_rl.config import EvaluationSettings, SweepSettings, TaskFilter, TrainSettings
from agent_rl.config.sections import TrackingSettings


def test_scenes_are_names_also_if_written_as_numbers() -> None:
    assert TaskFilter.model_validate({"scenes": [3, "305"]}).scenes == ("3", "305")


def test_difficulty_goes_from_least_to_most() -> None:
    with pytest.raises(ValidationError, match=r"write \[least, most\]"):
        TaskFilter(difficulty=(5, 3))


def test_a_group_has_two_episodes_or_more() -> None:
    with pytest.raises(ValidationError, match="at least 2 episodes"):
        TrainSettings(num_generations=1)


def test_extra_groups_need_groups_to_drop() -> None:
    with pytest.raises(ValidationError, match="max_extra_groups: 4 has no effect without"):
        TrainSettings(max_extra_groups=4)
    assert TrainSettings(max_extra_groups=4, drop_groups=("all_fail",)).max_extra_groups == 4


def test_splits_may_be_written_with_commas() -> None:
    split = EvaluationSettings.model_validate({"split": "valid_seen, valid_unseen"}).split
    assert split == ("valid_seen", "valid_unseen")


@pytest.mark.parametrize("split", ["", "a,", "a,a", []])
def test_splits_are_different_names(split: object) -> None:
    with pytest.raises(ValidationError, match="names of different splits"):
        EvaluationSettings.model_validate({"split": split})


@pytest.mark.parametrize("seeds", [(1, 1), (-1, 0)])
def test_seeds_are_different_numbers_from_0(seeds: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="different numbers, from 0 on"):
        SweepSettings(seeds=seeds)


@pytest.mark.parametrize("name", ["a/b", "", ".a", "a b"])
def test_variants_are_parts_of_folder_names(name: str) -> None:
    with pytest.raises(ValidationError, match="part of a folder's name"):
        SweepSettings(variants={name: {}})


@pytest.mark.parametrize("written", ["wandb, mlflow", ["wandb", "mlflow"]])
def test_trackers_may_be_written_with_commas(written: object) -> None:
    assert TrackingSettings.model_validate({"trackers": written}).trackers == ("wandb", "mlflow")
    assert TrackingSettings.model_validate({"trackers": ""}).trackers == ()


def test_a_tracker_is_named_once_and_known() -> None:
    with pytest.raises(ValidationError, match="name each tracker once"):
        TrackingSettings.model_validate({"trackers": "wandb,wandb"})
    with pytest.raises(ValidationError, match=r"'wandb', 'mlflow' or 'trackio'"):
        TrackingSettings.model_validate({"trackers": "wandbb"})
