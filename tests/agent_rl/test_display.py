import io
import logging
import re
from collections.abc import Callable

import pytest
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from agent_rl import display
from agent_rl.display import (
    console,
    interval,
    kept_lines,
    percent,
    points,
    points_interval,
    say,
    say_error,
    show_commands,
    show_episode,
    show_observation,
)
from envs import Task
from rollouts import StopReason, Trajectory


def test_kept_lines_are_not_shown_and_have_the_warnings_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with kept_lines() as lines:
        say("a [line] " + "w" * 200)
        logging.getLogger("agent_rl.somewhere").warning("%s is full", "/x")
        logging.getLogger("agent_rl.somewhere").info("details")
        logging.getLogger("rollouts.somewhere").warning("no room in %s", "/y")
    assert lines == ["a [line] " + "w" * 200, "/x is full", "no room in /y"]
    say("shown")
    assert capsys.readouterr().out == "shown\n"


def test_fractions_in_percent() -> None:
    assert percent(0.625) == "62.5"
    assert percent(2 / 3, 0) == "67"
    assert interval((0.5, 0.75)) == "50.0-75.0"
    assert interval((0.493, 0.626), digits=0, between=" - ") == "49 - 63"


def test_differences_in_points() -> None:
    assert points(0.05) == "+5.0"
    assert points(-0.017) == "-1.7"
    assert points_interval((-0.055, 0.021)) == "-5.5 to +2.1"


SPOKEN = "red \x1b[31m bell \a back\r title \x1b]0;x\x07 c1 \x9b2J order \u202e half \ud83d"
"""What an environment may say to a terminal."""


def sent(capsys: pytest.CaptureFixture[str]) -> str:
    """What came out on both streams since the last call, without ends of lines and tabs."""
    out = "".join(capsys.readouterr())
    return out.replace("\n", "").replace("\t", "")


def test_nothing_that_is_said_reaches_the_terminal_as_a_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = Table(title=escape(SPOKEN))
    table.add_column("head")
    table.add_row(escape(SPOKEN))
    table.add_row(Text(SPOKEN))
    shows: list[Callable[[], object]] = [
        lambda: say(SPOKEN),
        lambda: say_error(SPOKEN),
        lambda: show_observation(SPOKEN),
        lambda: show_commands([SPOKEN, "go"]),
        lambda: console.print(table),
        lambda: console.print(Text(SPOKEN)),
        lambda: console.rule(escape(SPOKEN)),
        lambda: show_episode(spoken_episode(), SPOKEN),
    ]
    for show in shows:
        show()
        shown = sent(capsys)
        assert shown.isprintable(), ascii(shown)
        assert "\\x1b[" in shown.replace(" ", "")


def test_a_terminal_gets_its_own_codes_only() -> None:
    file = io.StringIO()
    terminal = type(console)(
        file=file, force_terminal=True, color_system="standard", width=200, highlight=False
    )
    terminal.print(f"[bold]{escape(SPOKEN)}[/]")
    assert set(re.findall(r"\x1b\[[\d;]*m", file.getvalue())) == {"\x1b[1m", "\x1b[0m"}
    assert file.getvalue().count("\x1b") == 2


def test_a_note_behind_a_bar_is_not_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    terminal = type(console)(file=file, force_terminal=True, width=200)
    monkeypatch.setattr(display, "console", terminal)
    with display.progress("games", 2) as advance:
        advance("[/no] \x1b[31m")
    assert r"[/no] \x1b[31m" in file.getvalue()


def spoken_episode() -> Trajectory:
    """An episode in which everything is said that a terminal may take for a command."""
    task = Task(env_id="x", split="train", family=SPOKEN, id=SPOKEN)
    return Trajectory(
        task=task,
        turns=(),
        stop_reason=StopReason.ENV_ERROR,
        success=False,
        final_observation=SPOKEN,
        error=SPOKEN,
        env_seconds=0.0,
        policy_seconds=0.0,
    )
