import pytest

from rollouts import ServingSettings
from rollouts.processes.gpus import engine_share, rank_share, require_gpus


def serving(replicas: int = 1, tensor_parallel: int = 1) -> ServingSettings:
    return ServingSettings(replicas=replicas, tensor_parallel=tensor_parallel)


@pytest.mark.parametrize(
    ("settings", "ranks", "there"),
    [
        (serving(8, 8), 8, 0),  # all on CPU
        (serving(), 1, 1),
        (serving(), 0, 1),
        (serving(1, 2), 0, 2),
        (serving(2, 2), 3, 7),
    ],
)
def test_enough_gpus_are_enough(settings: ServingSettings, ranks: int, there: int) -> None:
    require_gpus(settings, there, ranks=ranks)
    asked = settings.replicas * engine_share(settings, there) + ranks * rank_share(there)
    assert asked <= there


@pytest.mark.parametrize(
    ("settings", "ranks", "there", "message"),
    [
        (
            serving(2, 2),
            0,
            3,
            r"serving\.replicas: 2 with serving\.tensor_parallel: 2 needs 4 GPUs; there are 3: "
            "lower these$",
        ),
        (
            serving(2, 2),
            3,
            6,
            r"needs 4 GPUs, and learner\.ranks: 3 one each; there are 6: set learner\.ranks: 2, "
            r"or use learner\.device: cpu$",
        ),
        (serving(), 2, 1, r"needs 1 GPU, and .*there are 1: set learner\.ranks: 1,"),
        (serving(), 2, 2, r"there are 2: set learner\.ranks: 1,"),
        (serving(1, 2), 1, 2, "there are 2: lower these, or use learner.device: cpu$"),
        (serving(2), 0, 1, "needs 2 GPUs; there are 1: lower these$"),
    ],
)
def test_too_few_are_told_with_what_fits(
    settings: ServingSettings, ranks: int, there: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        require_gpus(settings, there, ranks=ranks)


def test_shares_of_one_gpu_are_halves_and_an_engine_takes_one_per_process() -> None:
    shares = [(engine_share(serving(), there), rank_share(there)) for there in (0, 1, 2, 8)]
    assert shares == [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (1.0, 1.0)]
    assert engine_share(serving(1, 4), 8) == 4.0
    assert engine_share(serving(1, 4), 0) == 0.0


def test_a_sleeping_engine_has_to_share_the_only_gpu() -> None:
    sleeping = ServingSettings(sleep=True)
    require_gpus(sleeping, 1, ranks=1)
    with pytest.raises(ValueError, match=r"share one GPU, and there are 2: .*CUDA_VISIBLE_DEVICES"):
        require_gpus(sleeping, 2, ranks=1)
