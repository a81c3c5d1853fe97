"""A sharded checkpoint is read in any number of ranks, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agent_rl.learner.sharding import ShardedRanks, load_sharded, save_sharded
from tests.builders.two_ranks import Named, OnBoth, Trainee, assert_same

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("one_thread")]


def saved(
    ranks: ShardedRanks | None, folder: Path, steps: tuple[int, ...], tied: bool = False
) -> None:
    trainee = Trainee(ranks, tied=tied)
    trainee.steps(*steps)
    save_sharded(folder, trainee.model, trainee.optimizer)


def weights_of_resumed(
    ranks: ShardedRanks | None, folder: Path, steps: tuple[int, ...], tied: bool
) -> Named:
    trainee = Trainee(ranks, tied=tied, seed=1)
    trainee.steps(9)  # the optimizer gets other state, which loading must replace
    load_sharded(folder, trainee.model, trainee.optimizer)
    trainee.steps(*steps)
    return trainee.weights()


@pytest.mark.parametrize(("before", "tied"), [((), False), ((1, 2), False), ((1, 2), True)])
@pytest.mark.parametrize(("saves", "loads"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_a_run_resumes_in_any_number_of_ranks(
    saves: int, loads: int, before: tuple[int, ...], tied: bool, on_both: OnBoth, tmp_path: Path
) -> None:
    def run(ranks: int, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(None, *arguments) if ranks == 1 else on_both(function, *arguments)[0]

    folder, after = tmp_path / "checkpoint", (3, 4)
    uninterrupted = Trainee(None, tied=tied)
    uninterrupted.steps(*before, *after)
    run(saves, saved, folder, before, tied)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}, (
        "these alone run no code when they are read"
    )
    assert len(list(folder.iterdir())) == saves
    assert_same(run(loads, weights_of_resumed, folder, after, tied), uninterrupted.weights())


def test_the_optimizer_keeps_its_settings_and_its_step_count(
    on_both: OnBoth, tmp_path: Path
) -> None:
    on_both(saved, tmp_path / "checkpoint", (1, 2))
    trainee = Trainee(None, seed=1)
    trainee.optimizer.param_groups[0]["lr"] = 0.125
    load_sharded(tmp_path / "checkpoint", trainee.model, trainee.optimizer)
    assert trainee.optimizer.param_groups[0]["lr"] == 0.125
    assert {float(state["step"]) for state in trainee.optimizer.state.values()} == {2.0}


def lose(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def error_of_load(ranks: ShardedRanks | None, folder: Path, layers: int = 2) -> str:
    trainee = Trainee(ranks, layers=layers)
    before = [p.detach().clone() for p in trainee.parameters]
    with pytest.raises(ValueError, match="checkpoint") as raised:
        load_sharded(folder, trainee.model, trainee.optimizer)
    assert all(torch.equal(p, q) for p, q in zip(trainee.parameters, before, strict=True))
    return str(raised.value)


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("shard", [0, 1])
def test_a_damaged_checkpoint_is_refused(
    damage: Callable[[Path], None], shard: int, on_both: OnBoth, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    on_both(saved, folder, (1,))
    damage(sorted(folder.iterdir())[shard])
    assert str(folder) in error_of_load(None, folder)
    assert on_both(error_of_load, folder) == [error_of_load(None, folder)] * 2


def test_a_checkpoint_that_is_missing_or_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    assert "No such file" in error_of_load(None, folder)
    folder.mkdir()
    assert "holds no tensors" in error_of_load(None, folder)
    saved(None, folder, (1,))
    assert "layers.2" in error_of_load(None, folder, 3)
    assert "layers.1" in error_of_load(None, folder, 1)


def test_a_folder_with_files_is_not_written_into(tmp_path: Path) -> None:
    saved(None, tmp_path, (1,))
    with pytest.raises(ValueError, match="not empty"):
        saved(None, tmp_path, (1,))
