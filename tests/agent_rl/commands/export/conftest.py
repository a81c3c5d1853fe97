"""A run to export from, and the command."""

from pathlib import Path

import pytest

from agent_rl.config import dump_config, load_config
from agent_rl.policy.from_scratch import init_model
from agent_rl.policy.saving import save_policy
from agent_rl.runs.layout import missing_files
from tests.builders.command_line import CommandLine
from tests.builders.export import CONFIG, SIZES, TOKENIZER, Exports, report, write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The file of a config."""
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG.format(folder=tmp_path / "numbers"))
    return path


@pytest.fixture
def run_folder(config: Path, tmp_path: Path) -> Path:
    """A run from scratch with a warm start, trained to step 50 and evaluated on the way."""
    folder = tmp_path / "numbers"
    text = dump_config(load_config(config))
    save_policy(init_model(SIZES, TOKENIZER, seed=0), TOKENIZER, folder / "init")
    save_policy(init_model(SIZES, TOKENIZER, seed=1), TOKENIZER, folder / "sft" / "model")
    (folder / "sft" / "config.yaml").write_text(text)
    step_50 = folder / "train" / "checkpoints" / "step-000050"
    save_policy(init_model(SIZES, TOKENIZER, seed=2), TOKENIZER, step_50 / "model")
    (step_50 / "config.yaml").write_text(text)
    # The rest of a whole checkpoint is never read here.
    for name in missing_files(step_50):
        (step_50 / name).parent.mkdir(exist_ok=True)
        (step_50 / name).touch()
    for step, successes in ((20, 1), (40, 3), (60, 4)):
        write(folder / "train" / "evaluations" / f"step-{step:06d}.json", report(successes))
    write(
        folder / "demo.json",
        {"stages": {"init": report(0), "sft": report(1), "train": report(2)}, "seconds": {}},
    )
    return folder


@pytest.fixture
def exports(command_line: CommandLine) -> Exports:
    """Runs `agent-rl export`; returns its error, if any."""

    def run(*arguments: object) -> str:
        ended = command_line("export", *arguments)
        error = ended.err.strip()
        assert ended.status == (2 if error else 0)
        assert "Traceback" not in error
        return error

    return run
