"""TRL's side of `benchmarks/trl_step.py`: the same step with TRL's GMPOTrainer, in one process.

The policy, the games, the prompts' tokens and the sizes are those of the config. The trainer's own
method samples the turns, for all episodes at once. Each turn's prompt is computed from its
beginning, as in TRL's own loop of tool calls.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from agent_rl.config import Config
from agent_rl.config.loading import load_config
from agent_rl.policy.loading import load_policy
from agent_rl.tasks import training_tasks
from envs import Task, TextEnv, make_env
from rollouts.episode import FULL
from rollouts.renderer import Renderer, make_renderer
from rollouts.rendering.conversation import Conversation
from rollouts.serving.dtypes import chosen_dtype
from rollouts.types import Completion, FinishReason


class Episode:
    """One episode under way."""

    def __init__(self, env: TextEnv, task: Task, renderer: Renderer) -> None:
        self.env = env
        self.renderer = renderer
        self.conversation = Conversation(renderer, FULL)
        self.observation, _ = env.reset(seed=task.seed, options={"task": task})
        self.first = list(self.conversation.prompt(self.observation, None).token_ids)
        self.ids = list(self.first)
        self.agents: list[bool] = []
        """For each token after the first prompt: whether the policy sampled it."""
        self.logprobs: list[float] = []
        self.reward = 0.0
        self.over = False

    def act(self, token_ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """Send the action that was sampled to the environment."""
        ended = token_ids[-1] in self.renderer.end_token_ids
        completion = Completion(
            token_ids=tuple(token_ids),
            logprobs=tuple(logprobs),
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            versions=((0, 0),),
        )
        action = self.renderer.parse(completion)
        self.conversation.add(self.observation, completion, action)
        self._append(token_ids, logprobs, agents=True)
        command = action.text if action.command is None else action.command
        self.observation, reward, terminated, truncated, _ = self.env.step(command)
        self.reward += reward
        self.over = terminated or truncated

    def answer(self) -> None:
        """Append the environment's answer, the prompt of the next turn."""
        prompt = self.conversation.prompt(self.observation, None)
        self._append(prompt.token_ids, [0.0] * len(prompt.token_ids), agents=False)

    def _append(self, ids: Sequence[int], logprobs: Sequence[float], *, agents: bool) -> None:
        self.ids += ids
        self.agents += [agents] * len(ids)
        self.logprobs += logprobs


class Rollouts:
    """Plays the episodes of a step: TRL's `rollout_func`."""

    def __init__(self, config: Config, tasks: Sequence[Task], renderer: Renderer) -> None:
        self.tasks = {task.id: task for task in tasks}
        self.max_turns = config.episode.max_turns
        self.renderer = renderer
        episodes = config.train.tasks_per_step * config.train.num_generations
        self.envs = [make_env(config.env.id, **config.env.options) for _ in range(episodes)]
        self.seconds: list[float] = []
        self.sampled: list[int] = []

    def __call__(self, prompts: list[str], trainer: Any) -> dict[str, Any]:
        begin = time.perf_counter()
        episodes = []
        for env, prompt in zip(self.envs, prompts, strict=True):
            episodes.append(Episode(env, self.tasks[prompt], self.renderer))
        for turn in range(self.max_turns):
            playing = [episode for episode in episodes if not episode.over]
            if turn:
                for episode in playing:
                    episode.answer()
            # The method that TRL's own loop of tool calls samples a turn with.
            sampled, logprobs = trainer._generate_single_turn(
                [episode.ids for episode in playing], None, {}, trainer.num_generations
            )
            logprobs = logprobs or [[0.0] * len(ids) for ids in sampled]
            for episode, ids, of_ids in zip(playing, sampled, logprobs, strict=True):
                episode.act(ids, of_ids)
        self.seconds.append(time.perf_counter() - begin)
        self.sampled.append(sum(sum(episode.agents) for episode in episodes))
        return {
            "prompt_ids": [episode.first for episode in episodes],
            "completion_ids": [episode.ids[len(episode.first) :] for episode in episodes],
            "logprobs": [episode.logprobs for episode in episodes],
            "env_mask": [list(map(int, episode.agents)) for episode in episodes],
            "episode_reward": [episode.reward for episode in episodes],
        }


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """The wall time of each step, rollouts included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begin = self._begin or time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._begin)
        self._begin = now


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_config(arguments.config, arguments.set)
    if config.serving.threads:
        torch.set_num_threads(config.serving.threads)
    model, tokenizer = load_policy(str(config.model.path))
    world = make_env(config.env.id, **config.env.options)
    tasks = training_tasks(config, world.tasks)[: config.train.tasks_per_step * arguments.steps]
    rollouts = Rollouts(config, tasks, make_renderer(tokenizer, config.prompt))
    times = StepTimes()
    episodes = config.train.tasks_per_step * config.train.num_generations
    trainer = GMPOTrainer(
        model,
        reward_funcs=lambda prompts, completions, episode_reward, **_: episode_reward,
        args=GMPOConfig(
            output_dir=str(arguments.json.with_suffix("")),
            use_cpu=True,
            bf16=chosen_dtype(config.learner.dtype, gpu=False) == "bfloat16",
            per_device_train_batch_size=arguments.batch,
            gradient_accumulation_steps=episodes // arguments.batch,
            num_generations=config.train.num_generations,
            max_completion_length=config.episode.max_action_tokens,
            temperature=config.train.temperature,
            learning_rate=config.learner.learning_rate,
            max_grad_norm=config.learner.max_grad_norm,
            beta=0.0,
            max_steps=arguments.steps,
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
        ),
        # With a fingerprint: the package cannot make one with every version of pyarrow.
        train_dataset=Dataset(
            pyarrow.table({"prompt": [task.id for task in tasks]}), fingerprint="tasks"
        ),
        processing_class=tokenizer,
        rollout_func=rollouts,
        callbacks=[times],
    )
    trainer.train()
    record = {"seconds": times.seconds, "rollouts": rollouts.seconds, "sampled": rollouts.sampled}
    arguments.json.write_text(json.dumps(record))


if __name__ == "__main__":
    main()
