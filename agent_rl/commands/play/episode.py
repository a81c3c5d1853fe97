"""`agent-rl play`: one episode at the terminal, played by a person or shown step by step."""

import math
import random
import re
import time
from pathlib import Path

from agent_rl.commands.play.person import play_person
from agent_rl.commands.play.shown import ShownEnv
from agent_rl.config import Config, ConfigError, load_config, read_options
from agent_rl.display import console, held_stderr, say, show_ending
from agent_rl.runs.trajectories import write_trajectories
from agent_rl.tasks import open_environment
from envs import Task, TextEnv
from envs.nearest import did_you_mean, nearest
from rollouts import Trajectory
from rollouts.episode import run_episode
from rollouts.players import PLAYERS, PlayerName, make_player, player_named
from rollouts.processes.loops import run
from rollouts.renderer import Renderer, byte_renderer, make_renderer
from rollouts.rendering.end_tokens import end_ids
from rollouts.rendering.histories import make_history
from rollouts.scripted_episode import run_scripted_episode
from rollouts.serving.served_policy import ServedPolicy

HUMAN = "human"
TURNS = 50
"""The turn limit of an environment that is named without a config."""
_SUGGESTED = 3
"""The most tasks that the message for an unknown task suggests."""


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
    trust_env: bool = False,
) -> Trajectory:
    """Play one episode and save it.

    Args:
        what: an environment's id, or the file of a config.
        settings: `key=value`: the environment's options, or the config's keys.
        policy: `human`, `expert`, `random` or a checkpoint.
        split: the task's split; by default the config's `evaluation.split`, or the first one.
        task_id: the task; by default one is drawn from the split.
        turns: the most turns; by default those of the config, or `TURNS`.
        seed: the seed of the drawn task and of the policy; by default a random one.
        save: the file that the episode is appended to; by default a new one in `runs/play`.
        trust_env: whether a config that came with a model may name code.

    Raises:
        ValueError: an argument names something that does not exist.
    """
    _refuse_misspelled_policy(policy)
    config, from_file = config_to_play(what, settings, trust_env=trust_env)
    # A person may think as long as they like.
    limits = {"timeout_seconds": math.inf, "max_turns": turns or config.episode.max_turns}
    config = config.model_copy(update={"episode": config.episode.model_copy(update=limits)})
    seed = random.randrange(2**31) if seed is None else seed
    env = open_environment(config, expert=policy == "expert")
    default_split = config.evaluation.split[0] if from_file else env.splits[0]
    task = choose_task(env, split or default_split, task_id, seed)
    known = ", ".join(word for word in (task.split, task.family, task.scene) if word)
    say(f"task {task.id}   ({known})")
    player = player_named(policy)
    if policy == HUMAN:
        trajectory = play_person(env, task, config.episode)
    elif player:
        trajectory = _play_scripted(config, env, task, player, seed)
    else:
        trajectory = _play_checkpoint(config, env, task, policy, seed)
    env.close()
    show_ending(trajectory)
    path = save or _new_file(task.env_id)
    write_trajectories(path, [trajectory], append=True)
    say(f"saved in {path}")
    return trajectory


def config_to_play(
    what: str, settings: list[str], *, trust_env: bool = False
) -> tuple[Config, bool]:
    """The config to play, and whether it is from a file.

    Args:
        what: a YAML file, or an environment's id; then all other settings are defaults.
        settings: overrides of the config, or the environment's options.
        trust_env: whether a config that came with a model may name code.
    """
    if what.endswith((".yaml", ".yml")):
        return load_config(what, settings, trust_env=trust_env), True
    values = {
        "run_folder": "runs/play",
        "env": {"id": what, "options": read_options(settings)},
        "episode": {"max_turns": TURNS},
    }
    return Config.model_validate(values), False


def choose_task(env: TextEnv, split: str, task_id: str | None, seed: int) -> Task:
    """The task with that id, or one that `seed` draws from the split.

    Raises:
        ValueError: there is no such split, or no such task in it.
    """
    tasks = {task.id: task for task in env.tasks(split)}
    if task_id is None:
        return random.Random(seed).choice(list(tasks.values()))
    if task_id not in tasks:
        suggested = [known for known in tasks if task_id in known][:_SUGGESTED]
        near = nearest(task_id, tasks)
        if not suggested and near is not None:
            suggested = [near]
        # Not `hint`: it would list all tasks, of which there may be thousands.
        if suggested:
            way_out = f"did you mean {', '.join(map(repr, suggested))}?"
        else:
            way_out = f"the first is {next(iter(tasks))!r}"
        raise ConfigError(
            f"--task {task_id!r}: not among the {len(tasks)} tasks of split {split!r}; {way_out}"
        )
    return tasks[task_id]


def _play_scripted(
    config: Config, env: TextEnv, task: Task, name: PlayerName, seed: int
) -> Trajectory:
    shown = ShownEnv(env)
    player = make_player(name, shown, task, seed)
    episode = run_scripted_episode(shown, task, player, byte_renderer(), config.episode)
    return run(episode)


def _play_checkpoint(
    config: Config, env: TextEnv, task: Task, source: str, seed: int
) -> Trajectory:
    """Play with a policy whose engine runs in this process, without Ray."""
    with console.status("starting vLLM"), held_stderr():
        history = make_history(config.prompt)
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
                history=history,
            )
        finally:
            await policy.shutdown()

    return run(episode())


def _serve(config: Config, source: str) -> tuple[ServedPolicy, Renderer]:
    # Imported here: these load torch and transformers, which no other player needs.
    from agent_rl.policy.loading import load_policy
    from agent_rl.policy.weight_sync import ServingCopy

    model, tokenizer = load_policy(source, revision=config.model.revision_of(source))
    # Before the engine, which takes half a minute to start.
    ends = end_ids(model.config.eos_token_id, source)
    renderer = make_renderer(tokenizer, config.prompt, ends=ends)
    serving_copy = ServingCopy(model, tokenizer, config.serving.dtype)
    try:
        stops = bool(config.prompt.stop)
        return ServedPolicy(serving_copy.folder, config.serving, stops=stops), renderer
    finally:
        # The engine has the weights in memory now.
        serving_copy.close()


def _refuse_misspelled_policy(policy: str) -> None:
    known = (HUMAN, *PLAYERS)
    question = did_you_mean(policy, known)
    if question and policy not in known and not Path(policy).exists():
        raise ConfigError(f"--policy {policy!r}: no such checkpoint; {question}")


def _new_file(env_id: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", env_id).strip("-")
    return Path("runs", "play", f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl")
