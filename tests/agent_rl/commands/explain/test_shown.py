from pathlib import Path

from tests.builders.command_line import CommandLine
from tests.builders.scripted_session import scripted_loop


def test_the_command_tells_turns_numbers_and_the_step(
    tmp_path: Path, command_line: CommandLine
) -> None:
    learner = {"optimizer_steps": 2, "learning_rate": 0.1, "warmup_steps": 0}
    loop, _ = scripted_loop(tmp_path, learner=learner, keep_token_records=True)
    loop.rollout_step()
    loop.close()
    ended = command_line("explain", tmp_path, "--episode", "1/1", "--step", "1")
    assert (ended.status, ended.err) == (0, "")
    for line in (
        "group 1 of 1: mixed, trains",
        "1*: +1.00 (A +0.71), 2: +0.00 (A -0.71)",
        "2 of 4 tokens may train; 2 are prompts, which are masked",
        "  1 > look   reward +1.00",
        "A +0.707, 2 tokens, ",
        "- 2 tokens of prompt, masked: the policy did not write it",
        "all trained tokens of step 1, from their records (as the learner logged):",
    ):
        assert line in ended.out
    for line in ended.out.splitlines():
        if line.startswith("    log_ratio_rms"):
            _, ours, logged = line.split()
            assert f"({ours})" == logged
    ended = command_line("explain", tmp_path, "--episode", "1/1/2", "--turn", "1")
    assert "learner log-prob" in ended.out
    assert "all trained tokens" not in ended.out
    loop.run.layout.token_records(1).unlink()
    ended = command_line("explain", tmp_path, "--episode", "1/1/2")
    assert "ratios and clips are not known: the run kept none" in ended.out
    assert "A -0.707, 2 tokens" in ended.out
    ended = command_line("explain", tmp_path, "--episode", "1/1/2", "--turn", "3")
    assert ended.err.startswith("error: --turn 3: episode 1/1/2 has the turns 1 to 1")
