"""The configuration of everything that people run: YAML in, one frozen and checked `Config` out.

Light to import on purpose (no torch, Ray, vLLM or alfworld), so that a typo is found before
anything starts.
"""

import difflib
import re
from pathlib import Path
from typing import Any, Literal, get_args

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from agent_rl.config.learner import LearnerSettings, ModelSettings
from rollouts import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.settings import Settings


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the file, the key, the value and the
    way out.
    """


class EnvSettings(Settings):
    """Which environment: a built-in id or `package.module:Class`, its options, and the split that
    trains.
    """

    id: str = "alfworld"
    options: dict[str, Any] = Field(default_factory=dict)
    train_split: str = "train"


class TaskFilter(Settings):
    """Which tasks of a split: those of these `families` and these `scenes` (empty: of all), within
    `difficulty`.

    `difficulty` is the least and the most commands that somebody needs who knows everything (see
    `envs.Task`).
    """

    families: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()
    difficulty: tuple[int, int] | None = None

    @field_validator("scenes", mode="before")
    @classmethod
    def _scenes_are_names(cls, value: Any) -> Any:
        return [str(scene) for scene in value] if isinstance(value, list | tuple) else value

    @field_validator("difficulty")
    @classmethod
    def _least_and_most(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("write [least, most]")
        return value


class SftSettings(Settings):
    """The supervised warm start on expert episodes.

    `episodes` tasks of the training split are played by the environment's expert (0 takes all; more
    than there are plays them again, with other mistakes); `noise` is the share of turns in which
    something else is done instead, on which only `reading_epochs` train, so that the policy learns
    to recover. `reading_epochs` come before the `epochs`, and train on all tokens, those of the
    observations included: a model made from scratch learns to read and to copy names from them. A
    pretrained one needs none. `learning_rate` and `muon_learning_rate` are as in `learner`.
    """

    episodes: int = Field(default=400, ge=0)
    noise: float = Field(default=0.1, ge=0.0, lt=1.0)
    reading_epochs: int = Field(default=0, ge=0)
    epochs: int = Field(default=4, ge=1)
    batch_episodes: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0.0)
    muon_learning_rate: float | None = Field(default=None, gt=0.0)
    warmup_steps: int = Field(default=20, ge=0)


class TrainSettings(Settings):
    """The reinforcement loop: each rollout step plays `tasks_per_step` groups of `num_generations`
    episodes.

    `only` chooses the tasks, of the warm start too. `drop_groups`: groups in which `all_succeed` or
    `all_fail` differ in penalties and other small change at most, so they can be dropped; others
    are then played instead, until there are `tasks_per_step` groups to learn from or
    `max_extra_groups` more have been played. `checkpoint_every` and `eval_every` count rollout
    steps; 0 means only at the end (checkpoint) or never (evaluation).
    """

    only: TaskFilter = TaskFilter()
    rollout_steps: int = Field(default=30, ge=1)
    tasks_per_step: int = Field(default=8, ge=1)
    num_generations: int = 8
    drop_groups: tuple[Literal["all_succeed", "all_fail"], ...] = ()
    max_extra_groups: int = Field(default=0, ge=0)
    temperature: float = Field(default=1.0, gt=0.0)
    checkpoint_every: int = Field(default=10, ge=0)
    keep_checkpoints: int = Field(default=2, ge=1)
    eval_every: int = Field(default=0, ge=0)

    @field_validator("num_generations")
    @classmethod
    def _a_group_compares(cls, value: int) -> int:
        if value < 2:
            raise ValueError(
                "a group needs at least 2 episodes: its advantage compares them with each other"
            )
        return value

    @model_validator(mode="after")
    def _extra_groups_replace_dropped_ones(self) -> "TrainSettings":
        if self.max_extra_groups and not self.drop_groups:
            raise ValueError(
                f"max_extra_groups: {self.max_extra_groups} has no effect without drop_groups: name the groups to "
                "drop, or remove it"
            )
        return self


class EvaluationSettings(Settings):
    """Held-out evaluation: each task of each `split` once per repeat, which have seeds of their
    own.

    `split` is one name or several, as a list or with commas between. `tasks` are so many of each
    split; 0 takes all of it, or all that `only` chooses.
    """

    split: tuple[str, ...] = ("valid_seen",)
    only: TaskFilter = TaskFilter()
    tasks: int = Field(default=0, ge=0)
    repeats: int = Field(default=1, ge=1)
    temperature: float = Field(default=0.4, ge=0.0)

    @field_validator("split", mode="before")
    @classmethod
    def _names_with_commas(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @field_validator("split")
    @classmethod
    def _each_split_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not all(value) or len(set(value)) < len(value):
            raise ValueError("write the names of different splits, such as valid_seen,valid_unseen")
        return value


class SweepSettings(Settings):
    """The runs of `agent-rl sweep`: each variant with each of the `seeds`.

    A variant is a mapping of dotted keys to the values that it puts over the config, such as
    `{learner.objective: grpo, learner.learning_rate: 2.0e-4}`; an empty one is the config as it
    stands. Its name is part of its runs' folders.
    """

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 0 or len(set(value)) < len(value):
            raise ValueError("write different numbers, from 0 on")
        return value

    @field_validator("variants")
    @classmethod
    def _names_of_folders(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name in value:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"{name!r} is part of a folder's name: use letters, digits, _, - and ."
                )
        return value


class Config(Settings):
    """One experiment. `run_folder` gets everything that it writes; `seed` seeds everything that is
    drawn.
    """

    run_folder: str
    seed: int = 0
    model: ModelSettings = ModelSettings()
    env: EnvSettings = EnvSettings()
    prompt: PromptSettings = PromptSettings()
    episode: EpisodeSettings = EpisodeSettings()
    workers: WorkerSettings = WorkerSettings()
    serving: ServingSettings = ServingSettings()
    learner: LearnerSettings = LearnerSettings()
    sft: SftSettings = SftSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    sweep: SweepSettings | None = None

    @model_validator(mode="after")
    def _muon_has_whole_matrices(self) -> "Config":
        if self.sft.muon_learning_rate is not None and self.learner.ranks > 1:
            raise ValueError(
                f"sft.muon_learning_rate: {self.sft.muon_learning_rate} needs whole matrices, which learner.ranks: "
                f"{self.learner.ranks} share out; use ranks: 1 for the warm start, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_steps_have_samples(self) -> "Config":
        episodes = self.train.tasks_per_step * self.train.num_generations
        if self.learner.optimizer_steps > episodes:
            raise ValueError(
                f"learner.optimizer_steps: {self.learner.optimizer_steps} optimizer steps cannot share the "
                f"{episodes} episodes of a rollout step (train.tasks_per_step * train.num_generations)"
            )
        return self


def load_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, apply `key.path=value` overrides (values are YAML) and check the whole.

    Raises:
        ConfigError: the file is missing or no YAML mapping, or a key or a value is wrong.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; there are: {', '.join(near)}" if near else ""
        raise ConfigError(f"{path}: no such config file{hint}")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: a config is a mapping of sections, this is {type(values).__name__}"
        )
    for override in overrides or []:
        _put(values, override, "key.path=value, for example train.num_generations=8")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(path, error)) from error


def read_options(settings: list[str]) -> dict[str, Any]:
    """`key=value` settings as a dictionary; values are YAML, and a dot in a key goes down into a
    mapping.

    Raises:
        ConfigError: a setting is not of that form.
    """
    values: dict[str, Any] = {}
    for setting in settings:
        _put(values, setting, "key=value, for example size=8 or games.train=4")
    return values


def dump_config(config: Config) -> str:
    """The resolved config as YAML that `load_config` reads back to an equal value."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _put(values: dict[str, Any], setting: str, form: str) -> None:
    key, equals, text = setting.partition("=")
    *sections, last = names = key.split(".")
    if not equals or not all(names):
        raise ConfigError(f"{setting!r}: write {form}")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date and is none
        raise ConfigError(f"{setting!r}: the value is not valid YAML: {error}") from error
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{setting!r}: {section!r} is a value, not a section")
    values[last] = value


def explain(path: Path, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        location = [str(part) for part in item["loc"]]
        key = ".".join(location)
        if item["type"] == "extra_forbidden":
            known = _known_keys(location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(known)}"
            lines.append(f"{path}: {key}: unknown key; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{path}: {key}: missing; every config needs it")
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = (
                f": {item['input']!r}" if location and not isinstance(item["input"], dict) else ""
            )
            lines.append(f"{path}: {key}{value}: {message}" if key else f"{path}: {message}")
    return "\n".join(lines)


def _known_keys(location: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        annotation = model.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)
