"""The drawing of a room beside an episode: only for environments whose texts have a reader."""

from envs.alfworld.room import RoomStory, read_room
from rollouts import Trajectory

_READERS = {"alfworld": read_room}
"""The reader of an environment's texts, by `env.id`."""


def room_of(episode: Trajectory) -> RoomStory | None:
    """The episode's way through the room; None if its environment has no reader."""
    reader = _READERS.get(episode.task.env_id)
    if reader is None or not episode.actions:
        return None
    texts = [turn.observation for turn in episode.actions] + [episode.final_observation]
    return reader(texts, [turn.action.command or "" for turn in episode.actions])
