"""The sections of a config and the whole of it, frozen and checked. Light to import."""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from agent_rl.config.learner import LearnerSettings, ModelSettings
from rollouts import EpisodeSettings, PromptSettings, ServingSettings, WorkerSettings
from rollouts.settings import Settings


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
    something else is done instead, on which only `observation_epochs` train, so that the policy learns
    to recover. `observation_epochs` come before the `epochs`, and train on all tokens, those of the
    observations included: a model made from scratch learns to read and to copy names from them. A
    pretrained one needs none. `learning_rate` and `muon_learning_rate` are as in `learner`.
    """

    episodes: int = Field(default=400, ge=0)
    noise: float = Field(default=0.1, ge=0.0, lt=1.0)
    observation_epochs: int = Field(default=0, ge=0)
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
