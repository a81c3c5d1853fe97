"""What a policy is compared with: the environment's expert and chance, evaluated as a policy is. Loads no model."""

from pathlib import Path

from agent_rl.config import Config
from agent_rl.display import console
from agent_rl.evaluation import EvaluationReport, present, summarize
from agent_rl.pool import open_pool, play_scripted
from agent_rl.task_sampler import evaluation_tasks
from envs import make_env
from rollouts.players import PlayerName


def evaluate_player(
    config: Config, player: PlayerName, *, split: str | None = None, json: Path | None = None
) -> EvaluationReport:
    """Let a player play the tasks that a policy is evaluated on, once each: the same table, report and files."""
    chosen = split or config.evaluation.split
    with console.status("listing the tasks"):
        env = make_env(config.env.id, **config.env.options)
        tasks = evaluation_tasks(config, env.tasks, chosen)
        env.close()
    with open_pool(config, None, serve=False) as pool:
        trajectories = play_scripted(pool, tasks, player, seed=config.seed)
    report = summarize(trajectories, {"split": chosen, "temperature": None, "seed": config.seed, "model": player})
    episodes = Path(config.run_folder) / "evaluation" / f"{chosen}-{player}.jsonl"
    present(report, trajectories, title=f"{player} on {chosen}", episodes=episodes, json=json)
    return report
