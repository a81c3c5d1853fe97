"""The sections of a config that are agent_rl's: environment, tasks, warm start, training,
evaluation, trackers, sweep. Light to import.
"""

import re
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from rollouts.settings import Settings


class EnvSettings(Settings):
    """The environment to play in, and the split of its tasks that trains."""

    id: str = "alfworld"
    """Id of a built-in or registered environment, or `package.module:Class`."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the environment; docs/environments.md lists those of each."""

    train_split: str = "train"
    """Split of the tasks that train."""


class TaskFilter(Settings):
    """A choice among the tasks of a split; a task must pass every key."""

    families: tuple[str, ...] = ()
    """Families of tasks; empty takes all."""

    scenes: tuple[str, ...] = ()
    """Scenes, such as ALFWorld's rooms; empty takes all."""

    difficulty: tuple[int, int] | None = None
    """Least and most commands that a player needs who knows everything; null takes all."""

    @field_validator("scenes", mode="before")
    @classmethod
    def _scenes_are_names(cls, value: Any) -> Any:
        # ALFWorld's rooms have numbers as names, and YAML reads [3, 305] as integers.
        return [str(scene) for scene in value] if isinstance(value, list | tuple) else value

    @field_validator("difficulty")
    @classmethod
    def _least_and_most(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError("write [least, most]")
        return value


class SftSettings(Settings):
    """The warm start: supervised fine-tuning (SFT) on episodes of the environment's expert.

    First come `observation_epochs` on all tokens, then `epochs` on the expert's tokens. A model
    from scratch learns to read, and to copy names from observations, in the first ones. Last come
    `own_rounds` of episodes that the policy plays itself.
    """

    episodes_file: str = ""
    """File of episodes to learn from in place of the expert's: lines of messages or ATIF, or a
    folder of ATIF (docs/episodes.md). All of it is used, so `episodes` and `noise` have no
    effect."""

    episodes: int = Field(default=400, ge=0)
    """Episodes that the expert plays; 0 plays each task once. If there are fewer tasks, they are
    played again, with other mistakes."""

    noise: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of turns with a random command in place of the expert's, which no epoch trains.
    They teach the policy to recover."""

    observation_epochs: int = Field(default=0, ge=0)
    """Epochs on all tokens, those of observations too. For a model from scratch; a pretrained one
    needs none."""

    epochs: int = Field(default=4, ge=0)
    """Epochs on the expert's tokens; 0 needs `observation_epochs`, which train them too."""

    own_rounds: int = Field(default=0, ge=0)
    """Rounds after that (DAgger). In each the policy plays `own_episodes` with commands of its own,
    and learns what the expert would have done in each turn. 0 is none."""

    own_episodes: int = Field(default=200, ge=1)
    """Episodes that the policy plays in a round, at `train.temperature`."""

    own_corrections: int | None = Field(default=None, ge=1)
    """The most turns of an episode of the policy that are corrected, as it did something else than
    the expert would have done; null is all. The episode ends with them: a policy that is lost for
    40 turns would be corrected in each, which takes long and tells little."""

    own_epochs: int = Field(default=1, ge=1)
    """Epochs of a round."""

    own_replay: bool = True
    """Whether a round trains on the expert's episodes and on the policy's of all rounds so far.
    Off, it trains on its own episodes alone (on-policy distillation): that is for many rounds."""

    batch_episodes: int = Field(default=16, ge=1)
    """Episodes in an optimizer step."""

    learning_rate: float = Field(default=1e-3, gt=0.0)
    """AdamW's learning rate. The default suits a model from scratch."""

    muon_learning_rate: float | None = Field(default=None, gt=0.0)
    """Muon's learning rate for the matrices of the decoder's layers; null trains them with
    AdamW."""

    warmup_steps: int = Field(default=20, ge=0)
    """Optimizer steps over which the learning rate rises; it then falls linearly to 0, over all
    epochs and rounds."""

    checkpoint_every: int = Field(default=200, ge=0)
    """Optimizer steps from one checkpoint of an unfinished warm start to the next; 0 saves none.
    `agent-rl sft CONFIG --resume` goes on from it."""

    @model_validator(mode="after")
    def _the_expert_trains_something(self) -> Self:
        if not self.epochs and not self.observation_epochs:
            raise ValueError(
                "epochs: 0 without observation_epochs: nothing of the expert's episodes would be "
                "trained; set one of them"
            )
        return self


class TrainSettings(Settings):
    """The loop of reinforcement learning: rollout steps of groups of episodes."""

    only: TaskFilter = TaskFilter()
    """Tasks that train, also in the warm start."""

    rollout_steps: int = Field(default=30, ge=1)
    """Rollout steps of the run: episodes, an update, a sync of the weights."""

    look_ahead: int = Field(default=0, ge=0)
    """Rollout steps that are played ahead of the learner; 0 is synchronous. With N, the weights
    that sampled a token are up to N updates older than those that train on it."""

    tasks_per_step: int = Field(default=8, ge=1)
    """Groups in a rollout step, one for each task."""

    num_generations: int = 8
    """Episodes in a group; at least 2, because an advantage compares them."""

    drop_groups: tuple[Literal["all_succeed", "all_fail"], ...] = ()
    """Groups to drop because their episodes all end alike (dynamic sampling). They differ only in
    penalties and other small rewards."""

    max_extra_groups: int = Field(default=0, ge=0)
    """Groups that may be played in a rollout step in place of dropped ones, at most."""

    temperature: float = Field(default=1.0, gt=0.0)
    """Sampling temperature of the training episodes; 1 samples from the policy itself."""

    checkpoint_every: int = Field(default=10, ge=0)
    """Rollout steps from one checkpoint to the next; 0 saves at the end only."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """Newest checkpoints that are kept; older ones are deleted. With 2 there is another one if
    the newest is damaged."""

    keep_trajectories: int | None = Field(default=None, ge=0)
    """Newest rollout steps whose episodes are kept in `train/trajectories`; older files are
    deleted. null keeps all, 0 none."""

    keep_token_records: bool = False
    """Whether numbers of each trained token (ratio, clip, weight, entropy and others) are kept
    beside its episode, as long as that is (docs/episodes.md)."""

    eval_every: int = Field(default=0, ge=0)
    """Rollout steps from one evaluation to the next; 0 is never."""

    @field_validator("num_generations")
    @classmethod
    def _a_group_compares(cls, value: int) -> int:
        if value < 2:
            raise ValueError(
                "a group needs at least 2 episodes: its advantage compares them with each other"
            )
        return value

    @model_validator(mode="after")
    def _extra_groups_replace_dropped_ones(self) -> Self:
        if self.max_extra_groups and not self.drop_groups:
            raise ValueError(
                f"max_extra_groups: {self.max_extra_groups} has no effect without drop_groups: "
                "name the groups to drop, or remove it"
            )
        return self


class EvaluationSettings(Settings):
    """The held-out evaluation: each task of each split once per repeat."""

    split: tuple[str, ...] = ("valid_seen",)
    """Splits to play, as a list or as names with commas between them."""

    only: TaskFilter = TaskFilter()
    """Tasks of each split that are played."""

    tasks: int = Field(default=0, ge=0)
    """Tasks of each split, in equal shares of its families; 0 plays all. They are the same for
    every seed."""

    repeats: int = Field(default=1, ge=1)
    """Times that each task is played, with a seed for each."""

    temperature: float = Field(default=0.4, ge=0.0)
    """Sampling temperature; 0 is greedy. The default is verl-agent's."""

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


TrackerName = Literal["wandb", "mlflow", "trackio"]
"""A package that shows runs, besides TensorBoard."""


class TrackingSettings(Settings):
    """Who is told of a run, besides `metrics.jsonl` and TensorBoard (docs/trackers.md)."""

    trackers: tuple[TrackerName, ...] = ()
    """Trackers, as a list or as names with commas between them."""

    project: str = Field(default="agent_rl", min_length=1)
    """The tracker's project (MLflow: experiment)."""

    run_name: str = ""
    """Name of the run; empty takes the name of the run's folder. That of the warm start ends in
    `-sft`."""

    episodes: int = Field(default=4, ge=0)
    """Example episodes in each table of episodes; 0 tells none."""

    episodes_every: int = Field(default=10, ge=1)
    """Rollout steps from one table of episodes to the next."""

    finish_seconds: float = Field(default=30.0, ge=0.0)
    """Longest wait for a tracker at the end of a stage."""

    @field_validator("trackers", mode="before")
    @classmethod
    def _names_with_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("trackers")
    @classmethod
    def _each_tracker_once(cls, value: tuple[TrackerName, ...]) -> tuple[TrackerName, ...]:
        if len(set(value)) < len(value):
            raise ValueError("name each tracker once")
        return value


_FOLDER_NAME = re.compile(r"\w[\w.-]*")
"""Names that may be part of a run folder's name."""


class SweepSettings(Settings):
    """The runs of `agent-rl sweep`: each variant at each point of the grid, with each seed."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds; each variant gets a run for each."""

    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Names of variants, which become parts of folder names, and the dotted keys that each changes:
    `{grpo: {learner.objective: grpo}}`."""

    grid: dict[str, list[Any] | dict[str, dict[str, Any]]] = Field(default_factory=dict)
    """Axes that multiply with the variants. An axis is a dotted key with its values,
    `{train.look_ahead: [0, 2]}`, or a name with named points, which are dotted keys:
    `{age: {young: {learner.optimizer_steps: 4}, old: {learner.optimizer_steps: 16}}}`."""

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
            _refuse_no_folder_name(name)
        return value

    @field_validator("grid")
    @classmethod
    def _axes_have_points(cls, value: dict[str, Any]) -> dict[str, Any]:
        for axis, points in value.items():
            if not points:
                raise ValueError(f"{axis}: an axis has at least one point; remove it otherwise")
            if isinstance(points, dict):
                for name in points:
                    _refuse_no_folder_name(name)
        return value


def _refuse_no_folder_name(name: str) -> None:
    if not _FOLDER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is part of a folder's name: use letters, digits, _, - and .")
