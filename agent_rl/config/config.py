"""The whole config of an experiment, frozen and checked. Light to import."""

from typing import Self

from pydantic import model_validator

from agent_rl.config.learner import LearnerSettings
from agent_rl.config.model import ModelSettings
from agent_rl.config.sections import (
    EnvSettings,
    EvaluationSettings,
    SftSettings,
    SweepSettings,
    TrackingSettings,
    TrainSettings,
)
from rollouts.settings import (
    EpisodeSettings,
    PromptSettings,
    ServingSettings,
    Settings,
    WorkerSettings,
)


class Config(Settings):
    """One experiment: a config file holds these keys, and only `run_folder` is required."""

    run_folder: str
    """Folder for everything that the experiment writes."""

    seed: int = 0
    """Seed of everything that is drawn: weights, tasks, episodes, order of samples."""

    model: ModelSettings = ModelSettings()
    """The policy's model."""

    env: EnvSettings = EnvSettings()
    """The environment."""

    prompt: PromptSettings = PromptSettings()
    """The text of an episode."""

    episode: EpisodeSettings = EpisodeSettings()
    """Limits and rewards of an episode."""

    workers: WorkerSettings = WorkerSettings()
    """The processes of the environments."""

    serving: ServingSettings = ServingSettings()
    """The engine that samples from the policy."""

    learner: LearnerSettings = LearnerSettings()
    """The updates of the policy."""

    sft: SftSettings = SftSettings()
    """The warm start."""

    train: TrainSettings = TrainSettings()
    """Reinforcement learning."""

    evaluation: EvaluationSettings = EvaluationSettings()
    """The held-out evaluation."""

    tracking: TrackingSettings = TrackingSettings()
    """Trackers such as W&B."""

    sweep: SweepSettings | None = None
    """The runs of `agent-rl sweep`; null if there is no sweep."""

    @model_validator(mode="after")
    def _muon_has_whole_matrices(self) -> Self:
        if self.sft.muon_learning_rate is not None and self.learner.ranks > 1:
            raise ValueError(
                f"sft.muon_learning_rate: {self.sft.muon_learning_rate} needs whole matrices, "
                f"which learner.ranks: {self.learner.ranks} share out; use ranks: 1 for the warm "
                "start, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _only_thoughts_have_a_budget(self) -> Self:
        if self.episode.max_thought_tokens and not self.prompt.think:
            raise ValueError(
                f"episode.max_thought_tokens: {self.episode.max_thought_tokens} limits thoughts, "
                "but with prompt.think: false an answer has none; set prompt.think: true, or "
                "episode.max_thought_tokens: 0"
            )
        return self

    @model_validator(mode="after")
    def _older_weights_are_corrected(self) -> Self:
        # With `old_logprobs: sampler` the ratio itself is against the weights that sampled.
        corrected = self.learner.importance != "none" or self.learner.old_logprobs == "sampler"
        if self.train.look_ahead and not corrected:
            raise ValueError(
                "learner.importance: none corrects nothing, but with train.look_ahead: "
                f"{self.train.look_ahead} older weights sample the tokens; remove it (null is "
                "token), or use learner.old_logprobs: sampler, or train.look_ahead: 0"
            )
        return self

    @model_validator(mode="after")
    def _deterministic_runs_have_one_order(self) -> Self:
        if not self.serving.deterministic:
            return self
        if self.train.look_ahead:
            raise ValueError(
                "serving.deterministic: true cannot hold with train.look_ahead: "
                f"{self.train.look_ahead}, as the clock then says which weights sample which "
                "token; use train.look_ahead: 0"
            )
        if self.learner.ranks > 1:
            raise ValueError(
                f"serving.deterministic: true is not tested with learner.ranks: "
                f"{self.learner.ranks}; use learner.ranks: 1"
            )
        return self

    @model_validator(mode="after")
    def _engine_sleeps_while_the_learner_updates(self) -> Self:
        if not self.serving.sleep:
            return self
        if self.train.look_ahead:
            raise ValueError(
                f"serving.sleep: true cannot hold with train.look_ahead: {self.train.look_ahead}, "
                "as episodes of the next steps then play while the learner updates; use "
                "train.look_ahead: 0, or serving.sleep: false"
            )
        if self.learner.ranks > 1 or self.learner.device == "cpu":
            raise ValueError(
                "serving.sleep: true shares one GPU between engine and learner, but "
                f"learner.ranks is {self.learner.ranks} and learner.device {self.learner.device}; "
                "use learner.ranks: 1 on a GPU, or serving.sleep: false"
            )
        return self

    @model_validator(mode="after")
    def _served_adapter_is_trained(self) -> Self:
        if self.serving.lora == "adapter" and self.model.lora is None:
            raise ValueError(
                "serving.lora: adapter needs an adapter that is trained; set model.lora, or leave "
                "serving.lora out"
            )
        return self

    @model_validator(mode="after")
    def _optimizer_steps_have_samples(self) -> Self:
        episodes = self.train.tasks_per_step * self.train.num_generations
        if self.learner.optimizer_steps > episodes:
            raise ValueError(
                f"learner.optimizer_steps: {self.learner.optimizer_steps} optimizer steps cannot "
                f"share the {episodes} episodes of a rollout step "
                "(train.tasks_per_step * train.num_generations)"
            )
        return self
