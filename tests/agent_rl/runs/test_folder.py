import json
import os
from pathlib import Path

import pytest

from agent_rl.config import Config, ConfigError, load_run_config
from agent_rl.runs.folder import RunFolder
from agent_rl.runs.trajectories import load_trajectories
from rollouts import TrajectoryGroup
from tests.builders.episodes import TASK, trajectory, turn

CONFIG = Config(run_folder="r", seed=4)


def steps(folder: Path) -> list[int]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def write(folder: Path, count: int) -> None:
    run = RunFolder(folder, CONFIG)
    for step in range(1, count + 1):
        run.log(step, {"loss": step / 2})
    run.close()


def test_the_config_and_a_line_per_step_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 2)
    assert load_run_config(tmp_path / "config.yaml") == CONFIG
    lines = (tmp_path / "metrics.jsonl").read_text()
    assert lines == '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 1.0}\n'
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_resumed_run_does_its_later_steps_again(tmp_path: Path) -> None:
    write(tmp_path, 3)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    run = RunFolder(tmp_path, CONFIG, resume_from=2)
    assert steps(tmp_path) == [1, 2]
    run.log(3, {"loss": 0.0})
    run.close()
    assert steps(tmp_path) == [1, 2, 3]


def test_a_step_that_was_logged_twice_or_torn_is_one_line(tmp_path: Path) -> None:
    """As two processes left them that trained in one folder; the last line of a step counts."""
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "a": 0}\n{"step": 2, "a": 0}\n{"st{"step": 1, "a": 1}\n{"step": 3}\n7\n\x00\n'
        '{"step": 1, "a": 2}\n{"step": 2, "a": 2}\n{"step": 4}\n'
    )
    RunFolder(tmp_path, CONFIG, resume_from=3).close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 1, "a": 2}\n{"step": 2, "a": 2}\n{"step": 3}\n'


def test_a_full_disk_is_named_and_all_is_closed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, CONFIG)
    run._metrics.close()
    run._metrics = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")
    with pytest.raises(OSError, match="No space left") as in_log:
        run.log(1, {"loss": 0.5})
    with pytest.raises(OSError, match="No space left") as in_close:
        run.close()
    for raised in (in_log, in_close):
        assert raised.value.filename == str(tmp_path / "metrics.jsonl")
    with pytest.raises(RuntimeError, match="after shutdown"):
        run.write_groups(1, [])


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, 0)
    write(tmp_path, 1)
    with pytest.raises(
        ConfigError, match="holds a run already; delete the folder, or name another"
    ):
        RunFolder(tmp_path, CONFIG)


def test_the_episodes_of_a_step_are_a_file(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, CONFIG)
    episode = trajectory(turn())
    run.write_groups(7, [TrajectoryGroup(task=TASK, trajectories=(episode, episode))])
    run.close()
    path = tmp_path / "trajectories" / "step-000007.jsonl.gz"
    assert load_trajectories(path) == [episode, episode]


def test_as_a_context_manager_it_closes_itself(tmp_path: Path) -> None:
    with RunFolder(tmp_path, CONFIG) as run:
        run.log(1, {"loss": 0.5})
    with pytest.raises(ValueError, match="closed file"):
        run.log(2, {"loss": 0.5})
