from datetime import date

import pytest
from pydantic import ValidationError

from rollouts.settings import (
    EpisodeSettings,
    Example,
    PromptSettings,
    ServingSettings,
    Settings,
    WorkerSettings,
)

ALL = (Example, PromptSettings, EpisodeSettings, ServingSettings, WorkerSettings)


@pytest.mark.parametrize("cls", ALL)
def test_every_field_says_what_it_is(cls: type[Settings]) -> None:
    for name, field in cls.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (PromptSettings, {"formt": "chat"}, "Extra inputs"),
        (PromptSettings, {"format": "markdown"}, "'plain' or 'chat'"),
        (
            PromptSettings,
            {"history": "widow"},
            "'widow' is none of full, window, obs",
        ),
        (PromptSettings, {"history": "summary", "window": 0}, "window: 0 turns before each"),
        (PromptSettings, {"window": -1}, "greater than or equal to 0"),
        (PromptSettings, {"history_thoughts": False}, "with think: false an answer has none"),
        (
            PromptSettings,
            {"think": True, "history_thoughts": False, "history": "observations"},
            "no effect with history: observations, which shows no action; remove it",
        ),
        (
            PromptSettings,
            {"think": True, "history_thoughts": False, "history": "window", "window": 0},
            "history_thoughts: false has no effect with window: 0, .* use window: 1 or more",
        ),
        (PromptSettings, {"stop": ["\n", ""]}, "an empty text would end every action"),
        (PromptSettings, {"think": True, "stop": ["</think>"]}, "another text, such as </action>"),
        (PromptSettings, {"think": True, "stop": [">"]}, "stop: '>' ends each answer before its"),
        (PromptSettings, {"thought_end": "Now act."}, "write </think> once"),
        (PromptSettings, {"thought_end": "</think></think>"}, "does not end a thought"),
        (PromptSettings, {"thought_end": "<think></think>"}, "does not end a thought"),
        (PromptSettings, {"thought_end": "</think> So:"}, "only white space or <action>"),
        (PromptSettings, {"text_after_action": "keep"}, "'refuse' or 'ignore'"),
        (EpisodeSettings, {"max_thought_tokens": -1}, "greater than or equal to 0"),
        (EpisodeSettings, {"max_turns": 0}, "greater than or equal to 1"),
        (EpisodeSettings, {"env_timeout_seconds": 0.0}, "greater than 0"),
        (EpisodeSettings, {"invalid_action_penalty": -0.1}, "greater than or equal to 0"),
        (EpisodeSettings, {"repeated_action_penalty": -0.1}, "greater than or equal to 0"),
        (ServingSettings, {"gpu_memory_utilization": 1.1}, "less than or equal to 1"),
        (ServingSettings, {"tensor_parallel": 0}, "greater than or equal to 1"),
        (ServingSettings, {"sleep": True, "replicas": 2}, "replicas: 2 takes several GPUs"),
        (ServingSettings, {"sleep": True, "tensor_parallel": 2}, "use tensor_parallel: 1, or"),
        (ServingSettings, {"sleep": True, "deterministic": True}, "use one of them"),
        (ServingSettings, {"sleep": True, "lora": "adapter"}, "sleep: true; use lora: merged"),
        (ServingSettings, {"deterministic": True, "lora": "adapter"}, "use lora: merged"),
        (WorkerSettings, {"count": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_value_is_an_error(
    cls: type[Settings], values: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        cls.model_validate(values)


def test_dates_in_template_options_are_texts() -> None:
    # As YAML reads `{date_string: 2024-07-26, tools: null}`.
    given = {"date_string": date(2024, 7, 26), "tools": None}
    settings = PromptSettings.model_validate({"template_options": given})
    assert settings.template_options == {"date_string": "2024-07-26", "tools": None}


def test_one_stop_string_needs_no_list() -> None:
    assert PromptSettings.model_validate({"stop": "\n"}).stop == ("\n",)


def test_a_thought_may_end_with_the_beginning_of_an_action() -> None:
    end = "\nI have to act now.\n</think>\n\n<action>"
    assert PromptSettings(thought_end=end).thought_end == end


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EpisodeSettings().max_turns = 3
