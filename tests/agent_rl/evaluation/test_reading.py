"""How often commands go for what nobody has read of, by hand."""

from pathlib import Path

from agent_rl.evaluation.reading import ReadingScore
from agent_rl.evaluation.report import read_report, summarize
from envs.registry import object_reader
from rollouts import StopReason, Trajectory
from tests.builders.alfworld_texts import first_text
from tests.builders.episodes import trajectory, turn


def episode(*exchanges: tuple[str, str, bool]) -> Trajectory:
    """An episode of observations, the commands to them, and whether each was admissible."""
    turns = [
        turn(observation=observation, text=command, command=command, admissible=admissible)
        for observation, command, admissible in exchanges
    ]
    return trajectory(*turns, stop_reason=StopReason.MAX_TURNS)


ROOM, NOTHING = first_text("put a mug in shelf"), "Nothing happens."
READS = episode(
    (ROOM, "go to shelf 1", True),
    ("You arrive at shelf 1. On the shelf 1, you see a mug 2.", "take mug 2 from shelf 1", True),
    ("You pick up the mug 2 from the shelf 1.", "move mug 2 to shelf 1", True),
)
GUESSES = episode(
    (ROOM, "go to drawer 7", False),
    (NOTHING, "go to drawer 7", False),
    # The thing is named only after the command for it.
    (NOTHING, "take mug 2 from drawer 7", False),
    ("On the shelf 1, you see a mug 2.", "go to drawer 2", True),
)
READER = object_reader("alfworld")


def test_shares_by_hand() -> None:
    """Four times to furniture, of which two to drawer 7; two takes, one of a thing unseen; three
    refused commands, one of which repeats the one before.
    """
    expected = ReadingScore(unlisted_furniture=0.5, unseen_things=0.5, repeated_refusals=1 / 3)
    assert ReadingScore.of([READS, GUESSES], READER) == expected


def test_what_does_not_occur_has_no_share() -> None:
    none = ReadingScore(unlisted_furniture=None, unseen_things=None, repeated_refusals=None)
    assert ReadingScore.of([], READER) == none
    assert ReadingScore.of([episode((ROOM, "look", True))], READER) == none
    other = ReadingScore.of([GUESSES], object_reader("taxi"))
    assert (other.unlisted_furniture, other.unseen_things) == (None, None)
    assert other.repeated_refusals == 1 / 3


def test_a_report_has_them_and_reads_them_back(tmp_path: Path) -> None:
    report = summarize({"valid_seen": [[READS]]}, {}, READER)
    reading = report.splits["valid_seen"].reading
    assert reading == ReadingScore(
        unlisted_furniture=0.0, unseen_things=0.0, repeated_refusals=None
    )
    report.write(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report
