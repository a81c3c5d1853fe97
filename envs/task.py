"""What an episode is about: the one value that rollouts, samplers and reports pass around."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to do in one environment. All members of a group share one `Task`.

    `id` is stable over machines, processes and runs, and unique within `env_id` and `split`. `seed`
    goes to `reset(seed=...)`; an environment without chance ignores it. What tasks are chosen by:
    `scene` says where it is played ("" where there is but one place), `difficulty` how many
    commands somebody needs who knows everything (0 where nobody knows).
    """

    env_id: str
    split: str
    family: str
    id: str
    seed: int = 0
    scene: str = ""
    difficulty: int = 0
