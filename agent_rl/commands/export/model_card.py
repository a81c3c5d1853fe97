"""The model card of an exported policy: what it is, what it was trained on and how, how good it is,
how to use it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from pydantic import ValidationError
from transformers import PreTrainedModel

from agent_rl.config import Config, ConfigError, dump_config
from agent_rl.config.keys import upgraded
from agent_rl.config.learner import LearnerSettings
from agent_rl.display import interval, percent
from agent_rl.evaluation.report import (
    EvaluationReport,
    read_report,
    read_stage_reports,
)
from agent_rl.evaluation.tables import ALL, markdown_table
from agent_rl.runs.layout import (
    CONFIG_FILE,
    EXPORTED_CONFIG,
    PolicyPlace,
    RunLayout,
    policy_place,
    step_of,
)
from rollouts import PromptSettings
from rollouts.renderer import first_messages, first_text

OBSERVATION = "the environment's first observation, with the task in it"
"""Stands in the card's example prompt for the text of a game."""
COMMANDS = ("a command", "another command")
"""Stand in the card's example prompt for a game's admissible commands."""
_INIT, _SFT, _TRAIN, _OTHER = "init", "sft", "train", "other"
_WHAT = {
    _INIT: "Random weights; nothing has been trained yet.",
    _SFT: "The warm start: supervised training on the episodes of the environment's expert.",
    _TRAIN: "Trained by reinforcement.",
    _OTHER: "Not trained by the run that it was exported from.",
}
_SECTIONS = {
    _INIT: ("model", "prompt", "episode"),
    _SFT: ("model", "prompt", "episode", "sft", "learner"),
    _TRAIN: ("model", "prompt", "episode", "sft", "learner", "train"),
    _OTHER: ("prompt", "episode"),
}
_STAGES = {
    "init": "Before training",
    "sft": "After the warm start",
    "train": "After the reinforcement",
}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The run and the stage that a policy comes from."""

    source: str
    """The policy's path or hub name."""
    place: PolicyPlace | None
    """Its place in its run; None for a model that no run of this project made."""
    config_text: str
    """The resolved config of the run, as YAML."""

    @classmethod
    def of(cls, source: str, config: Config) -> "Origin":
        """Find out by the policy's path.

        Its config is the one in the folder above it, or `config` if there is none.
        """
        folder = Path(source).expanduser().resolve()
        place = policy_place(folder)
        beside = folder.parent / CONFIG_FILE
        if place is not None and beside.is_file():
            # An old run may have recorded old keys; the exported config is for today's commands.
            recorded = upgraded(yaml.safe_load(beside.read_text()))
            text = yaml.safe_dump(recorded, sort_keys=False)
        else:
            text = dump_config(config)
        return cls(source=source, place=place, config_text=text)

    @property
    def kind(self) -> str:
        """The stage that made the policy, or `other`."""
        return _OTHER if self.place is None else self.place.stage

    @property
    def stage(self) -> str:
        """The last stage of the run that is complete in this policy.

        Before the newest checkpoint, reinforcement learning is not complete.
        """
        if self.place is None or self.place.step is None:
            return self.kind
        return _TRAIN if self.place.step == self.place.run.train.last_step() else _SFT

    @property
    def settings(self) -> dict[str, Any]:
        """The config's sections as plain values, not checked: an old run may have other keys."""
        loaded: dict[str, Any] = yaml.safe_load(self.config_text)
        return loaded


def model_card(
    origin: Origin, model: PreTrainedModel, *, folder: Path, hub: str, dtype: str
) -> str:
    """The card as Markdown, with the front matter that the hub reads.

    Args:
        folder: where the policy is written; the card's commands use it, or `hub` where that names a
        repository.

    Raises:
        ConfigError: an evaluation's file in the run folder is damaged, or of another version.
    """
    settings = origin.settings
    of_model, environment = _section(settings, "model"), _section(settings, "env")
    base = origin.source if origin.kind == _OTHER else str(of_model.get("path") or "")
    if base:
        # The sizes that a model made from scratch would have had are not this one's.
        settings["model"] = {key: of_model[key] for key in ("path", "lora") if key in of_model}
    sections = _SECTIONS[origin.kind]
    run = None if origin.place is None else origin.place.run
    if run is None or not run.sft.model.is_dir():
        sections = tuple(name for name in sections if name != _SFT)
    return _TEMPLATE.render(
        title=Path(origin.source).name
        if run is None
        else f"{run.folder.name}: an agent for {environment.get('id')}",
        what=_WHAT[origin.kind],
        step=None if origin.place is None else origin.place.step,
        base=base,
        on_hub=re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) and not Path(base).exists(),
        made_here=origin.kind != _OTHER,
        adapter=origin.kind in (_SFT, _TRAIN) and of_model.get("lora"),
        sizes=_sizes(model, dtype),
        environment=list(_rows(environment)),
        sections={name: list(_rows(settings.get(name))) for name in sections},
        objective=_objective(settings) if origin.kind == _TRAIN else [],
        reports=list(_reports(origin)),
        config_copy=EXPORTED_CONFIG,
        folder=folder,
        hub=hub,
        first=_first_prompt(settings),
        tokens=_section(settings, "episode").get("max_action_tokens", 16),
    )


def _sizes(model: PreTrainedModel, dtype: str) -> list[tuple[str, Any]]:
    config = model.config.get_text_config()
    named = {
        "vocabulary": "vocab_size",
        "hidden size": "hidden_size",
        "layers": "num_hidden_layers",
        "attention heads": "num_attention_heads",
        "key and value heads": "num_key_value_heads",
        "intermediate size": "intermediate_size",
        "context, tokens": "max_position_embeddings",
    }
    found = [
        (what, getattr(config, key))
        for what, key in named.items()
        if getattr(config, key, None) is not None
    ]
    parameters = sum(p.numel() for p in model.parameters())
    return [
        ("architecture", type(model).__name__),
        ("parameters", f"{parameters:,}"),
        ("dtype", dtype),
        *found,
    ]


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = settings.get(name)
    return section if isinstance(section, Mapping) else {}


def _objective(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What the objective's name stands for, where the learner's keys are those of today."""
    try:
        learner = LearnerSettings.model_validate(_section(settings, "learner"))
    except ValidationError:
        return []
    return list(_rows(asdict(learner.chosen_objective)))


def _first_prompt(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The renderer's first prompt, with placeholders; nothing if the config's keys are too old."""
    try:
        prompt = PromptSettings.model_validate(_section(settings, "prompt"))
    except ValidationError:
        return {}
    chat = prompt.format == "chat"
    return {
        "messages": first_messages(prompt, OBSERVATION, COMMANDS) if chat else [],
        "text": "" if chat else first_text(prompt, OBSERVATION, COMMANDS),
    }


def _rows(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Key and value of everything that is set, whatever the keys are called; `a.b` for what is in a
    mapping.
    """
    if not isinstance(section, Mapping):
        return
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key}.")
        elif value is not None and value not in ("", []):
            yield f"{prefix}{key}", value


def _reports(origin: Origin) -> Iterator[dict[str, Any]]:
    """The evaluations of this policy and of the stages before it.

    They are those of the demo, and the newest one of the run.
    """
    if origin.place is None:
        return
    try:
        demo = origin.place.run.demo_summary
        if demo.is_file():
            stages = read_stage_reports(demo)
            last = list(stages).index(origin.stage) + 1 if origin.stage in stages else None
            for stage, report in list(stages.items())[:last]:
                yield from _report(_STAGES.get(stage, f"Stage {stage}"), report)
        if origin.place.step is not None:
            for step, report in _newest(origin.place.run, origin.place.step):
                yield from _report(f"After rollout step {step}", report)
    except ConfigError as error:
        raise ConfigError(f"{error}; or delete it, and the card leaves it out") from error


def _newest(run: RunLayout, checkpoint: int) -> Iterator[tuple[int, EvaluationReport]]:
    """The run's newest evaluation up to a checkpoint, if any, with its rollout step.

    It is the final evaluation of a sweep's run if that is of the checkpoint, or else the last one
    made in training. Later ones are of later policies.
    """
    if run.final_report.is_file():
        report = read_report(run.final_report)
        if report.checkpoint_step == checkpoint:
            yield checkpoint, report
            return
    by_step = {}
    for path in run.train.evaluations.glob("step-*.json"):
        step = step_of(path)
        if step is not None and step <= checkpoint:
            by_step[step] = path
    if by_step:
        newest = max(by_step)
        yield newest, read_report(by_step[newest])


def _report(when: str, report: EvaluationReport) -> Iterator[dict[str, Any]]:
    """What the card says of each split."""
    for split, part in report.splits.items():
        scores = [*part.families.items(), (f"**{ALL}**", part.overall)]
        yield {
            "title": f"{when}, on `{split}` at temperature {report.setting.get('temperature')}",
            "rows": [(name, s.n, percent(s.success), interval(s.interval)) for name, s in scores],
            "failures": ", ".join(f"{count} {reason}" for reason, count in part.failures.items()),
        }


_environment = Environment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_environment.filters["python"] = repr
_environment.globals["table"] = markdown_table
_TEMPLATE = _environment.from_string("""\
---
library_name: transformers
pipeline_tag: text-generation
{% if made_here and not base %}
license: apache-2.0
{% endif %}
{% if on_hub %}
base_model: {{ base }}
{% endif %}
tags: [agent-rl, reinforcement-learning, language-agent]
---
# {{ title }}

A language model for text worlds: it reads an observation and writes a command, for many turns. {{ what }}
{% if step is not none %}
This is the policy after rollout step {{ step }}.
{% endif %}

## The model

{% if base %}
Base model: `{{ base }}`.
{% else %}
Made from scratch: random weights, and a tokenizer trained on the environment's text.
{% endif %}
{% if adapter %}
An adapter (LoRA) was trained, and is merged into these weights.
{% endif %}

{{ table(["what", "value"], sizes) }}

{% if made_here %}
## The data

The episodes are of this environment; no other text was trained on.

{{ table(["env", "value"], environment) }}

{% endif %}
## The settings

The sections of the run's config; a key that is not set is left out.

{% for name, rows in sections.items() if rows %}
{{ table([name, "value"], rows) }}

{% endfor %}
{% if objective %}
The objective in full:

{{ table(["part", "value"], objective) }}

{% endif %}
## Evaluation

{% for report in reports %}
{{ report.title }}:

{{ table(["family", "n", "success, %", "95 % interval"], report.rows) }}

{% if report.failures %}
Not scored, as they say nothing about the policy: {{ report.failures }}.

{% endif %}
{% else %}
There is none in the run's folder.

{% endfor %}
## Use

With agent_rl; `{{ config_copy }}` is the config of the run, and its paths are those of the machine that it ran on:

{% set here = "policy" if hub else folder %}
```
{% if hub %}
hf download {{ hub }} --local-dir {{ here }}
{% endif %}
agent-rl evaluate {{ here }}/{{ config_copy }} --model {{ here }}
agent-rl play {{ here }}/{{ config_copy }} --policy {{ here }}
```

{% if first %}
With transformers, the first turn. Put the text of your game in the place of the one shown:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({{ (hub or folder | string) | python }})
model = AutoModelForCausalLM.from_pretrained({{ (hub or folder | string) | python }})
{% if first.messages %}
messages = [
{% for message in first.messages %}
    {{ message | python }},
{% endfor %}
]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
{% else %}
prompt = (tokenizer.bos_token or "") + {{ first.text | python }}
{% endif %}
ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
answer = model.generate(ids, max_new_tokens={{ tokens }}, eos_token_id=tokenizer.eos_token_id)[0, ids.shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
```

{% endif %}
## Licence

{% if base %}
The weights derive from `{{ base }}`, whose licence holds for them. agent_rl, the code, is under Apache-2.0.
{% else %}
Apache-2.0, as is agent_rl, which made and trained the weights.
{% endif %}
""")
