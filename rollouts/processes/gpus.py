"""How many GPUs the engines and the learner's processes ask Ray for. Light to import."""

from rollouts.settings import ServingSettings

_HALF = 0.5
"""Of the only GPU, when engine and learner share it."""


def require_gpus(serving: ServingSettings, there: int, *, ranks: int = 0) -> None:
    """Raise if there are GPUs, but not as many as the engines and the learner need.

    Ray would wait for the missing ones for ever.

    Args:
        there: the GPUs that Ray knows. Without any, all run on CPU.
        ranks: the learner's processes that take a GPU each.

    Raises:
        ValueError: there are too few, or too many for `serving.sleep`.
    """
    engines = serving.gpus
    if serving.sleep and there > 1:
        raise ValueError(
            f"serving.sleep: true lets engine and learner share one GPU, and there are {there}: "
            "set it to false, and each has its own (CUDA_VISIBLE_DEVICES=0 shows only one)"
        )
    shared = there == engines == 1 and ranks <= 1
    if not there or engines + ranks <= there or shared:
        return
    said = (
        f"serving.replicas: {serving.replicas} with serving.tensor_parallel: "
        f"{serving.tensor_parallel} needs {_gpus(engines)}"
    )
    ways = ["lower these"]
    if ranks:
        said += f", and learner.ranks: {ranks} one each"
        most = 1 if there == engines == 1 else there - engines
        ways = [f"set learner.ranks: {most}"] if most > 0 else ways
        ways.append("use learner.device: cpu")
    raise ValueError(f"{said}; there are {there}: {', or '.join(ways)}")


def engine_share(serving: ServingSettings, there: int) -> float:
    """Return the GPUs that each engine asks for."""
    return float(serving.tensor_parallel) if serving.tensor_parallel <= there > 1 else _share(there)


def rank_share(there: int) -> float:
    """Return the GPUs that each of the learner's processes asks for."""
    return _share(there)


def _share(there: int) -> float:
    return _HALF if there == 1 else float(min(there, 1))


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count > 1)}"
