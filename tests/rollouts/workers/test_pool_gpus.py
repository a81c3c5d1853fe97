"""What engines cannot have on a machine is told before any process of the pool starts."""

from pathlib import Path

import pytest

from rollouts import ServingSettings
from rollouts.workers import pool
from rollouts.workers.pool import PoolSettings, RolloutPool
from tests.builders.models import save_policy


def refused(folder: Path, serving: ServingSettings) -> str:
    settings = PoolSettings(env_id="tests.builders.number_env:NumberEnv", serving=serving)
    with pytest.raises(ValueError, match="serving") as error:
        RolloutPool(settings, folder)
    return str(error.value)


def test_a_model_that_does_not_fit_the_settings_is_refused_without_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "start_ray", lambda: pytest.fail("Ray was started"))
    folder = save_policy(tmp_path, 0)
    assert "tensor_parallel: 3 processes" in refused(folder, ServingSettings(tensor_parallel=3))
    assert "sleep: true needs a GPU" in refused(folder, ServingSettings(sleep=True))


@pytest.mark.process
def test_too_few_gpus_end_ray_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "gpu_count", lambda: 3)
    serving = ServingSettings(replicas=2, tensor_parallel=2)
    assert "there are 3: lower these" in refused(save_policy(tmp_path, 0), serving)
    import ray

    assert not ray.is_initialized()
