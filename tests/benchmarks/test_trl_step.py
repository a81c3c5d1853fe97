from agent_rl.config.loading import load_config
from agent_rl.display import console
from benchmarks.trl_step import CONFIG, Side, table
from benchmarks.uneven_alfworld import UnevenAlfworld


def side(**values: float) -> Side:
    numbers = {"step": 10.0, "rollouts": 4.0, "learner": 6.0, "sampled": 96.0, **values}
    return Side(**numbers, memory_of={"driver": numbers["memory_gib"]})


def test_ratios_are_trls_number_over_ours() -> None:
    with console.capture() as shown:
        console.print(
            table({"agent_rl": side(memory_gib=2.0), "TRL": side(step=35.0, memory_gib=1.0)})
        )
    rows = [line.split("│")[1:-1] for line in shown.get().splitlines() if "│" in line]
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["step, s"] == ["10.0", "35.0", "3.50"]
    assert cells["most memory, GiB"] == ["2.0", "1.0", "0.50"]


def test_episodes_that_differ_have_rewards_that_differ() -> None:
    config = load_config(CONFIG, ["env.options.games={train: 1, valid_seen: 0, valid_unseen: 0}"])
    env = UnevenAlfworld(**config.env.options)
    task = env.tasks("train")[0]
    rewards = []
    for command in ("look", "inventory", "look"):
        env.reset(seed=task.seed, options={"task": task})
        rewards.append(env.step(command)[1])
    assert rewards[0] == rewards[2]
    assert 0.0 < rewards[0] < rewards[1] or 0.0 < rewards[1] < rewards[0]
