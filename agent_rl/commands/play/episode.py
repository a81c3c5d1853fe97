"""What `agent-rl play` does: one episode at the terminal, played by a person, or shown while a
policy plays it.
"""

import asyncio
import difflib
import math
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

from rich.markup import escape

from agent_rl.commands.play.person import play_person
from agent_rl.config import Config, ConfigError, load_config, read_options
from agent_rl.display import console, held_stderr, say, show_ending, show_observation, show_outcome
from agent_rl.runs.trajectories import write_trajectories
from envs import Task, TextEnv, make_env, reset_fault, step_fault
from rollouts import Trajectory
from rollouts.episode import run_episode
from rollouts.players import PLAYERS, PlayerName, make_player, player_named
from rollouts.renderer import Renderer, byte_renderer, load_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.serving.served_policy import ServedPolicy

HUMAN = "human"
TURNS = 50
"""The turn limit of an environment that is named without a config."""


def play(
    what: str,
    settings: list[str],
    *,
    policy: str = HUMAN,
    split: str | None = None,
    task_id: str | None = None,
    turns: int | None = None,
    seed: int | None = None,
    save: Path | None = None,
) -> Trajectory:
    """Play one episode of `what`, an environment's id (with its options) or a config (with
    overrides), and save it.

    `policy` is `human`, `expert`, `random` or a checkpoint. Without `task_id` the task is drawn
    from `split`, by `seed` where one is given.

    Raises:
        ValueError: something of that does not exist; the message says what does.
    """
    _check_policy(policy)
    config, from_file = config_to_play(what, settings)
    limits: dict[str, Any] = {
        "timeout_seconds": math.inf,
        "max_turns": turns or config.episode.max_turns,
    }
    config = config.model_copy(update={"episode": config.episode.model_copy(update=limits)})
    seed = random.randrange(2**31) if seed is None else seed
    options = {**config.env.options, "expert": True} if policy == "expert" else config.env.options
    env = make_env(config.env.id, **options)
    task = choose_task(
        env, split or (config.evaluation.split[0] if from_file else env.splits[0]), task_id, seed
    )
    about = ", ".join(word for word in (task.split, task.family, task.scene) if word)
    say(f"task {task.id}   ({about})")
    if policy == HUMAN:
        trajectory = play_person(env, task, config.episode)
    elif player := player_named(policy):
        trajectory = _play_scripted(config, env, task, player, seed)
    else:
        trajectory = _play_checkpoint(config, env, task, policy, seed)
    env.close()
    show_ending(trajectory)
    path = save or Path(
        "runs", "play", f"{_file_name(task.env_id)}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    )
    write_trajectories(path, [trajectory], append=True)
    say(f"saved in {path}")
    return trajectory


def config_to_play(what: str, settings: list[str]) -> tuple[Config, bool]:
    """The config in a YAML file, or that of an environment with everything else left at its
    default; and whether it came from a file.
    """
    if what.endswith((".yaml", ".yml")):
        return load_config(what, settings), True
    env = {"id": what, "options": read_options(settings)}
    return Config.model_validate(
        {"run_folder": "runs/play", "env": env, "episode": {"max_turns": TURNS}}
    ), False


def choose_task(env: TextEnv, split: str, task_id: str | None, seed: int) -> Task:
    """The task of that id, or one drawn from the split.

    Raises:
        ValueError: there is no such split, or no such task in it.
    """
    tasks = {task.id: task for task in env.tasks(split)}
    if task_id is None:
        return random.Random(seed).choice(list(tasks.values()))
    if task_id not in tasks:
        near = [known for known in tasks if task_id in known][:3] or difflib.get_close_matches(
            task_id, tasks
        )
        hint = (
            f"did you mean {', '.join(map(repr, near))}?"
            if near
            else f"the first is {next(iter(tasks))!r}"
        )
        raise ConfigError(
            f"--task {task_id!r}: not among the {len(tasks)} tasks of split {split!r}; {hint}"
        )
    return tasks[task_id]


class ShownEnv(TextEnv):
    """An environment whose episode is shown as it goes; each step waits for Enter where a person is
    there.

    The end of the input (Ctrl-D) lets the rest run through.
    """

    def __init__(self, env: TextEnv) -> None:
        self._env = env
        self._turns = 0
        self._waits = sys.stdin.isatty()
        self._admissible: list[str] | None = None
        self.action_space, self.observation_space = env.action_space, env.observation_space

    def tasks(self, split: str) -> list[Task]:
        return self._env.tasks(split)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        answer = self._env.reset(seed=seed, options=options)
        if not reset_fault(answer):
            self._show(*answer)
        return answer

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self._wait()
        self._turns += 1
        console.print(f"{self._turns:>3} > {escape(action)}", style="bold", end="")
        answer = self._env.step(action)
        if not step_fault(answer):
            observation, reward, _, _, info = answer
            show_outcome(reward, admissible=self._admissible is None or action in self._admissible)
            self._show(observation, info)
        return answer

    def _wait(self) -> None:
        if self._waits:
            try:
                input("    (Enter) ")
            except EOFError:
                console.print()
                self._waits = False

    def _show(self, observation: str, info: dict[str, Any]) -> None:
        show_observation(observation)
        self._admissible = info.get("admissible_commands")


def _play_scripted(
    config: Config, env: TextEnv, task: Task, player: PlayerName, seed: int
) -> Trajectory:
    shown = ShownEnv(env)
    return asyncio.run(
        run_scripted_episode(
            shown, task, make_player(player, shown, task, seed), byte_renderer(), config.episode
        )
    )


def _play_checkpoint(
    config: Config, env: TextEnv, task: Task, source: str, seed: int
) -> Trajectory:
    """In this process, without Ray: the engine is a plain class."""
    with console.status("starting vLLM"), held_stderr():
        policy, renderer = _serve(config, source)

    async def episode() -> Trajectory:
        try:
            return await run_episode(
                ShownEnv(env),
                task,
                policy,
                renderer,
                config.episode,
                context_length=policy.context_length,
                temperature=config.evaluation.temperature,
                seed=seed,
            )
        finally:
            await policy.shutdown()

    return asyncio.run(episode())


def _serve(config: Config, source: str) -> tuple[ServedPolicy, Renderer]:
    from agent_rl.policy.loading import load_policy
    from agent_rl.policy.serving_copy import ServingCopy

    serving_copy = ServingCopy(*load_policy(source), config.serving.dtype)
    try:
        return ServedPolicy(serving_copy.folder, config.serving), load_renderer(
            serving_copy.folder, config.prompt
        )
    finally:
        serving_copy.close()


def _check_policy(policy: str) -> None:
    near = difflib.get_close_matches(policy, (HUMAN, *PLAYERS), n=1)
    if near and policy != near[0] and not Path(policy).exists():
        raise ConfigError(f"--policy {policy!r}: no such checkpoint; did you mean {near[0]!r}?")


def _file_name(env_id: str) -> str:
    return re.sub(r"[^\w.-]+", "-", env_id).strip("-")
