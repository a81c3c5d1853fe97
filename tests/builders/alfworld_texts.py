"""ALFWorld's texts, by hand: the first one of an episode, and frames that hold nothing else."""

from envs.alfworld.engines.engine import Frame

ROOM = "a drawer 2, a drawer 1, a fridge 1, a microwave 1, a shelf 2, a shelf 1, and a sinkbasin 1"


def first_text(task: str) -> str:
    """The first observation of an episode with this task, for example "put a mug in shelf"."""
    return (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. "
        f"Looking quickly around you, you see {ROOM}.\n\nYour task is to: {task}."
    )


def frame(text: str) -> Frame:
    """A frame without commands or facts, so that there is nothing but the text to go by."""
    return Frame(text=text, commands=(), won=False)
