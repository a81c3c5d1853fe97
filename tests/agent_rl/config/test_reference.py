import pytest

from agent_rl.config import Config
from agent_rl.config.keys import flat_values
from agent_rl.config.reference import reference
from tests.builders.paths import ROOT

PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), (
        "run: python -m agent_rl.config.reference > docs/configuration.md"
    )


def test_every_key_has_a_row() -> None:
    config = Config.model_validate({"run_folder": "r", "model": {"lora": {}}, "sweep": {}})
    page = reference()
    for key in flat_values(config):
        assert f"\n| `{key}` | " in page


@pytest.mark.parametrize(
    "row",
    [
        "| `run_folder` | text | required |  | Folder for everything that the experiment writes. |",
        "| `train.tasks_per_step` | integer | `8` | at least 1 | Groups in a rollout step, one for "
        "each task. |",
        "| `sft.noise` | number | `0.1` | at least 0, below 1 | Share of turns",
        "| `learner.schedule` | `constant`, `linear`, `cosine` | `constant` |  | Learning rate",
        '| `prompt.thought_end` | text | `"\\n</think>\\n\\n"` |  | What ends a thought',
        "| `learner.betas` | [number, number] | `[0.9, 0.95]` |  | AdamW",
        "| `train.only.families` | list of texts | `[]` |  | Families of tasks; empty takes all. |",
        "| `model.lora.target_modules` | `all-linear` or list of texts | `all-linear` |  | Layers",
        "| `sweep.seeds` | list of integers | `[0, 1, 2]` | at least 1 of them | Seeds;",
    ],
)
def test_rows_say_type_default_and_range(row: str) -> None:
    assert f"\n{row}" in reference()


def test_renamed_keys_values_and_options_are_listed() -> None:
    text = " ".join(reference().rpartition("## Renamed")[2].split())
    assert "`sft.reading_epochs` is now `sft.observation_epochs`" in text
    assert "`learner.advantage: step_groups` is now `learner.advantage: turn_groups`" in text
    assert "`env.options.renamed` is now `env.options.entity_permutations`" in text
