"""The recipes of others in `configs/`, against the numbers that their authors publish."""

from agent_rl.config import load_config
from tests.builders.paths import ROOT


def test_verl_agent_s_recipe_for_alfworld() -> None:
    config = load_config(ROOT / "configs/verl-agent-alfworld.yaml")
    assert config.model.path == "Qwen/Qwen2.5-1.5B-Instruct"
    assert (config.prompt.history, config.prompt.window) == ("window", 2)
    assert not config.prompt.history_thoughts
    assert (config.episode.max_turns, config.episode.max_action_tokens) == (50, 512)
    # Of the turn alone, and not of the episode's return.
    assert (config.episode.reward_scale, config.episode.invalid_action_penalty) == (10.0, 0.0)
    assert config.learner.invalid_turn_penalty == 0.1
    # 2,048 for the prompt, and the answer.
    assert config.serving.context_length == 2048 + config.episode.max_action_tokens
    train = config.train
    assert (train.tasks_per_step, train.num_generations, train.rollout_steps) == (16, 8, 150)
    assert (train.temperature, config.evaluation.temperature, train.eval_every) == (1.0, 0.4, 5)
    # All of their 128 episodes play at once.
    assert config.workers.count * config.workers.envs_per_worker == 128


def test_verl_agent_s_objective() -> None:
    learner = load_config(ROOT / "configs/verl-agent-alfworld.yaml").learner
    chosen = learner.chosen_objective
    # Of a token: PPO's clip at 0.8 and 1.2, and at 3 if the advantage is negative; the sum is
    # divided by the tokens of the optimizer step.
    assert (chosen.aggregation, chosen.clip, chosen.normalisation) == ("token", "ratio", "token")
    assert (chosen.epsilon, chosen.epsilon_high, chosen.clip_c) == (0.2, 0.2, 3.0)
    assert chosen.advantage == "turn_weighted"
    assert (learner.beta, learner.entropy_bonus) == (0.01, 0.001)
    assert learner.chosen_importance.level == "none"
    assert (learner.learning_rate, learner.schedule, learner.warmup_steps) == (1e-6, "constant", 0)
    assert (learner.weight_decay, learner.betas) == (0.01, (0.9, 0.999))
    assert learner.max_grad_norm == 1.0
    # 256 turns a step: 128 episodes of 50 turns make 25 steps, and those of 16 turns make 8.
    assert learner.steps_of_update(128 * 50) == 25
    assert learner.steps_of_update(128 * 16) == 8
