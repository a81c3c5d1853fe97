"""`agent-rl envs list`."""

from tests.builders.command_line import CommandLine


def test_the_list(command_line: CommandLine) -> None:
    ended = command_line("envs", "list")
    assert ended.status == 0, ended.err
    assert "guess-the-number" in ended.out
    assert "gymnasium's ids, such as FrozenLake-v1" in ended.out
