"""The model card of an exported policy: its training, its data, its results, its use.

`model_card.md.jinja` is the text; this module gives the values in it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from pydantic import ValidationError
from transformers import PreTrainedModel

from agent_rl.commands.export.origin import Origin
from agent_rl.config import ConfigError
from agent_rl.config.keys import EXPORTED_CONFIG
from agent_rl.config.learner import LearnerSettings
from agent_rl.display import interval, percent, visible
from agent_rl.evaluation.report import EvaluationReport, read_report, read_stage_reports
from agent_rl.evaluation.rows import ALL
from agent_rl.evaluation.tables import markdown_table
from agent_rl.policy.experts import active_parameters, has_experts
from agent_rl.runs.layout import RunLayout
from rollouts import PromptSettings
from rollouts.renderer import first_messages, first_text
from rollouts.rendering.chat_template import CLOCK

OBSERVATION = "the environment's first observation, with the task in it"
"""Stands for the text of a game in the card's example prompt."""
COMMANDS = ("a command", "another command")
"""Stand for a game's admissible commands in the card's example prompt."""
_TRAINING: Mapping[str, str] = {
    "init": "Random weights; nothing has been trained yet.",
    "sft": "The warm start: supervised training on the episodes of the environment's expert.",
    "train": "Trained by reinforcement.",
    "other": "Not trained by the run that it was exported from.",
}
_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "init": ("model", "prompt", "episode"),
    "sft": ("model", "prompt", "episode", "sft", "learner"),
    "train": ("model", "prompt", "episode", "sft", "learner", "train"),
    "other": ("prompt", "episode"),
}
"""The sections of the config that are shown, by the stage that made the policy."""
_STAGES = {
    "init": "Before training",
    "sft": "After the warm start",
    "train": "After the reinforcement",
}
"""The titles of a demo's evaluations."""
_SIZES = {
    "vocabulary": "vocab_size",
    "hidden size": "hidden_size",
    "layers": "num_hidden_layers",
    "attention heads": "num_attention_heads",
    "key and value heads": "num_key_value_heads",
    "intermediate size": "intermediate_size",
    "experts of a layer": "num_experts",
    "experts of a token": "num_experts_per_tok",
    "context, tokens": "max_position_embeddings",
}
"""The sizes that are shown, with their keys in a Hugging Face config."""


def model_card(
    origin: Origin, model: PreTrainedModel, *, folder: Path, hub: str, dtype: str
) -> str:
    """The card as Markdown, with the front matter that the hub reads.

    Args:
        origin: the policy's origin.
        model: the policy.
        folder: the policy's new folder, which the card's commands use.
        hub: a repository's name; then the commands use it in place of the folder.
        dtype: the number format of the exported weights.

    Raises:
        ConfigError: an evaluation's file in the run folder is damaged, or of another version.
    """
    settings = origin.settings
    of_model, environment = _section(settings, "model"), _section(settings, "env")
    base = origin.source if origin.kind == "other" else str(of_model.get("path") or "")
    if base:
        # The other keys are the sizes of a model made from scratch, which this one is not.
        settings["model"] = {key: of_model[key] for key in ("path", "lora") if key in of_model}
    sections = {}
    for name in _shown_sections(origin):
        sections[name] = list(_rows(settings.get(name)))
    title = Path(origin.source).name
    if origin.run is not None:
        title = f"{origin.run.folder.name}: an agent for {environment.get('id')}"
    is_hub_name = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) is not None
    card: str = _template().render(
        title=title,
        training=_TRAINING[origin.kind],
        step=origin.step,
        base=base,
        base_on_hub=is_hub_name and not Path(base).exists(),
        made_here=origin.kind != "other",
        adapter=origin.kind in ("sft", "train") and of_model.get("lora"),
        sizes=_sizes(model, dtype),
        environment=list(_rows(environment)),
        sections=sections,
        objective=_objective(settings) if origin.kind == "train" else [],
        reports=list(_reports(origin)),
        config_copy=EXPORTED_CONFIG,
        folder=folder,
        hub=hub,
        first=_first_prompt(settings),
        tokens=_section(settings, "episode").get("max_action_tokens", 16),
    )
    return visible(card)


def _template() -> Template:
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["python"] = repr
    environment.globals["table"] = markdown_table
    return environment.from_string(files(__package__).joinpath("model_card.md.jinja").read_text())


def _shown_sections(origin: Origin) -> list[str]:
    """The config's sections to show: without `sft` if the run has no warm start."""
    warm_started = origin.run is not None and origin.run.sft.model.is_dir()
    return [name for name in _SECTIONS[origin.kind] if name != "sft" or warm_started]


def _sizes(model: PreTrainedModel, dtype: str) -> list[tuple[str, Any]]:
    """The rows of the model's table."""
    config = model.config.get_text_config()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows: list[tuple[str, Any]] = [
        ("architecture", type(model).__name__),
        ("parameters", f"{parameters:,}"),
        ("dtype", dtype),
    ]
    if has_experts(model):
        rows.insert(2, ("active for a token", f"{active_parameters(model):,}"))
    for name, key in _SIZES.items():
        value = getattr(config, key, None)
        if value is not None:
            rows.append((name, value))
    return rows


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a config that may be of another version; empty if there is none."""
    section = settings.get(name)
    return section if isinstance(section, Mapping) else {}


def _objective(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The parts that the objective's name stands for; none if the learner's keys are too old."""
    try:
        learner = LearnerSettings.model_validate(_section(settings, "learner"))
    except ValidationError:
        return []
    return list(_rows(asdict(learner.chosen_objective)))


def _first_prompt(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The renderer's first prompt, with placeholders; empty if the config's keys are too old."""
    try:
        prompt = PromptSettings.model_validate(_section(settings, "prompt"))
    except ValidationError:
        return {}
    chat = prompt.format == "chat"
    return {
        "messages": first_messages(prompt, OBSERVATION, COMMANDS) if chat else [],
        "options": "".join(map(_argument, prompt.template_options.items())) if chat else "",
        "text": "" if chat else first_text(prompt, OBSERVATION, COMMANDS),
    }


def _argument(option: tuple[str, Any]) -> str:
    """An option of the chat template as a further argument in Python; its clock is a function."""
    name, value = option
    return f", {name}={f'lambda form: {value!r}' if name == CLOCK else repr(value)}"


def _rows(section: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The key and value of everything that is set, for any keys; `a.b` for keys in a mapping."""
    if not isinstance(section, Mapping):
        return
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _rows(value, f"{prefix}{key}.")
        elif value is not None and value not in ("", []):
            yield f"{prefix}{key}", value


def _reports(origin: Origin) -> Iterator[dict[str, Any]]:
    """The evaluations to show: those of a demo's stages, then the newest one of the run."""
    if origin.run is None:
        return
    try:
        yield from _stage_reports(origin.run, origin.finished_stage)
        if origin.step is not None:
            newest = _newest_report(origin.run, origin.step)
            if newest is not None:
                step, report = newest
                yield from _split_reports(f"After rollout step {step}", report)
    except ConfigError as error:
        raise ConfigError(f"{error}; or delete it, and the card leaves it out") from error


def _stage_reports(run: RunLayout, last: str) -> Iterator[dict[str, Any]]:
    """The evaluations of a demo's stages, up to the stage `last`."""
    if not run.demo_summary.is_file():
        return
    for stage, report in read_stage_reports(run.demo_summary).items():
        yield from _split_reports(_STAGES.get(stage, f"Stage {stage}"), report)
        if stage == last:
            return


def _newest_report(run: RunLayout, checkpoint: int) -> tuple[int, EvaluationReport] | None:
    """The last evaluation of a run that was made until a checkpoint, with its rollout step.

    Later evaluations are of other policies. The final evaluation counts if it is of the checkpoint;
    else the last one that was made in training.
    """
    if run.final_report.is_file():
        final = read_report(run.final_report)
        if final.checkpoint_step == checkpoint:
            return checkpoint, final
    reports = run.train.reports()
    steps = [step for step in reports if step <= checkpoint]
    return (steps[-1], read_report(reports[steps[-1]])) if steps else None


def _split_reports(title: str, report: EvaluationReport) -> Iterator[dict[str, Any]]:
    """The table of each split."""
    temperature = report.setting.get("temperature")
    for split, part in report.splits.items():
        rows = []
        for name, score in [*part.families.items(), (f"**{ALL}**", part.overall)]:
            rows.append((name, score.n, percent(score.success), interval(score.interval)))
        failures = [f"{count} {reason}" for reason, count in part.failures.items()]
        yield {
            "title": f"{title}, on `{split}` at temperature {temperature}",
            "rows": rows,
            "failures": ", ".join(failures),
        }
