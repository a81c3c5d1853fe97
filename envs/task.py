"""A task: the one value that rollouts, samplers and reports share about an episode."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """One thing to do in one environment. All members of a group share one `Task`."""

    env_id: str
    """The id of the environment, as `make_env` takes it."""
    split: str
    """The split that the task belongs to."""
    family: str
    """The kind of task; reports give the success of each family."""
    id: str
    """The name of the task. It is unique within `env_id` and `split`, and never changes."""
    seed: int = 0
    """The seed for `reset`; an environment without chance ignores it."""
    scene: str = ""
    """The place where it is played; "" if there is only one."""
    difficulty: int = 0
    """How many commands it takes a player who knows everything; 0 if that is unknown."""
