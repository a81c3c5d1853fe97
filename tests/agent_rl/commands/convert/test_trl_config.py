import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_rl.commands.convert.trl_config import Conversion, Trainer, account, convert
from agent_rl.config import Config, ConfigError, load_config
from tests.builders.command_line import CommandLine


def converted(
    folder: Path, *, trainer: Trainer = "gmpo", processes: int = 1, **theirs: Any
) -> Conversion:
    file = folder / "theirs.json"
    file.write_text(json.dumps(theirs))
    return convert(file, trainer, processes=processes)


def ours(result: Conversion) -> Config:
    return Config.model_validate(result.values)


def test_gmpo_has_the_same_bounds_and_trl_s_defaults(tmp_path: Path) -> None:
    config = ours(converted(tmp_path))
    chosen = config.learner.chosen_objective
    assert (chosen.aggregation, chosen.clip) == ("episode", "log")
    assert (chosen.epsilon, chosen.epsilon_high) == (0.4, 0.4)
    # Of TRL, where ours are others: AdamW's rates, the schedule, the seed, no weights.
    assert config.learner.betas == (0.9, 0.999)
    assert config.learner.schedule == "linear"
    assert config.learner.chosen_importance.level == "none"
    assert config.learner.dtype == "bfloat16"
    assert config.seed == 42


def test_an_upper_bound_of_its_own(tmp_path: Path) -> None:
    chosen = ours(converted(tmp_path, epsilon=0.2, epsilon_high=0.6)).learner.chosen_objective
    assert (chosen.epsilon, chosen.epsilon_high) == (0.2, 0.6)


def test_sizes_count_processes_and_steps(tmp_path: Path) -> None:
    # 4 completions in each of 2 processes: 8 in a pass. Two passes are an optimizer step of 16, and
    # eight passes a generation of 64: 8 groups of 8, in 4 optimizer steps.
    result = converted(
        tmp_path,
        processes=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=8,
        max_steps=100,
        save_steps=20,
    )
    config = ours(result)
    assert config.train.tasks_per_step == 8
    assert config.learner.optimizer_steps == 4
    assert config.train.rollout_steps == 25
    assert config.train.checkpoint_every == 5
    same = converted(
        tmp_path,
        processes=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        generation_batch_size=64,
    )
    assert ours(same).train.tasks_per_step == 8


def test_groups_that_are_not_whole_need_the_number_of_processes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"theirs\.json: 4 completions .* give --processes"):
        converted(tmp_path, per_device_train_batch_size=4)


@pytest.mark.parametrize(
    ("theirs", "objective", "normalisation", "bounds"),
    [
        ({}, "grpo", "token", (0.2, 0.2)),
        ({"loss_type": "grpo"}, "grpo", "sequence", (0.2, 0.2)),
        ({"loss_type": "dr_grpo", "scale_rewards": False}, "dr_grpo", "constant", (0.2, 0.2)),
        # CISPO's largest weight is 5: from 0 to 1 + 4.
        ({"loss_type": "cispo", "epsilon_high": 5.0}, "cispo", "token", (1.0, 4.0)),
    ],
)
def test_the_losses_of_grpo(
    theirs: dict[str, Any],
    objective: str,
    normalisation: str,
    bounds: tuple[float, float],
    tmp_path: Path,
) -> None:
    learner = ours(converted(tmp_path, trainer="grpo", **theirs)).learner
    chosen = learner.chosen_objective
    assert (learner.objective, chosen.normalisation) == (objective, normalisation)
    assert (chosen.epsilon, chosen.epsilon_high) == bounds
    if objective == "dr_grpo":
        assert (chosen.advantage, learner.normalisation_length) == ("group_mean", 512)


def test_the_dual_clip_is_delta_and_idle_in_gmpo(tmp_path: Path) -> None:
    assert ours(converted(tmp_path, trainer="grpo", delta=4.0)).learner.clip_c == 4.0
    result = converted(tmp_path, delta=4.0)
    assert ours(result).learner.clip_c is None
    assert "delta: GMPOTrainer does not use it" in result.idle


def test_the_mask_and_the_kl_term_of_grpo(tmp_path: Path) -> None:
    result = converted(tmp_path, trainer="grpo", off_policy_mask_threshold=0.5, beta=0.01)
    assert ours(result).learner.off_policy_mask == 0.5
    # TRL's default weighs the KL term, ours does not.
    assert any(line.startswith("use_bias_correction_kl: true") for line in result.lost)


def test_template_options(tmp_path: Path) -> None:
    options = {"enable_thinking": False}
    assert (
        ours(converted(tmp_path, chat_template_kwargs=options)).prompt.template_options == options
    )


def test_the_weights_for_the_sampler(tmp_path: Path) -> None:
    masked = ours(converted(tmp_path, trainer="grpo", use_vllm=True)).learner
    assert (masked.importance, masked.importance_mask) == ("sequence", 3.0)
    cut = ours(
        converted(
            tmp_path,
            trainer="grpo",
            use_vllm=True,
            vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_max=2.5,
        )
    ).learner
    assert (cut.importance, cut.importance_cap) == ("token", 2.5)


def test_what_cannot_be_said_is_named(tmp_path: Path) -> None:
    result = converted(
        tmp_path,
        trainer="grpo",
        loss_type="sapo",
        scale_rewards="batch",
        num_iterations=2,
        top_p=0.9,
        top_k=0,
        epsilom=0.3,
        report_to="none",
    )
    lost = "\n".join(result.lost)
    for said in ("loss_type: sapo", "scale_rewards: batch", "num_iterations: 2", "top_p: 0.9"):
        assert said in lost
    assert "epsilom: 0.3; not a key of TRL 1.16's config; did you mean 'epsilon'?" in result.lost
    assert "top_k: 0 changes nothing" in result.idle
    assert "report_to: no counterpart" in result.idle


def test_each_key_of_the_file_is_in_the_account(tmp_path: Path) -> None:
    theirs: dict[str, Any] = {
        "output_dir": "out",
        "learning_rate": 2e-6,
        "num_train_epochs": 2,
        "warmup_steps": 0.1,
        "optim": "adafactor",
        "gradient_accumulation_steps": 2,
        "vllm_mode": "colocate",
        "vllm_importance_sampling_mode": "token_mask",
        "fp16": True,
        "entropy_coef": 0.01,
        "no_such_key": 1,
    }
    trainers: tuple[Trainer, ...] = ("gmpo", "grpo")
    for trainer in trainers:
        said = account(converted(tmp_path, trainer=trainer, **theirs), trainer=trainer)
        for key in theirs:
            assert key in said, f"{trainer}: {key}"


def test_yaml_numbers_without_a_dot(tmp_path: Path) -> None:
    file = tmp_path / "theirs.yaml"
    file.write_text("learning_rate: 5e-7\n")
    assert ours(convert(file, "gmpo")).learner.learning_rate == 5e-7
    file.write_text("output_dir: '2024'\n")
    assert ours(convert(file, "gmpo")).run_folder == "2024"


def test_a_wrong_value_is_an_error_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"learner\.learning_rate: -1"):
        converted(tmp_path, learning_rate=-1)
    with pytest.raises(ConfigError, match=r"gradient_accumulation_steps: None is no number"):
        converted(tmp_path, gradient_accumulation_steps=None)
    with pytest.raises(ConfigError, match="no such file"):
        convert(tmp_path / "none.json", "gmpo")


def test_the_command_writes_yaml_and_accounts_on_standard_error(
    tmp_path: Path, command_line: CommandLine
) -> None:
    file = tmp_path / "theirs.json"
    file.write_text('{"beta": 0.02, "top_p": 0.9}')
    ended = command_line("convert", "trl-config", str(file))
    assert ended.status == 0
    assert yaml.safe_load(ended.out)["learner"]["beta"] == 0.02
    assert "beta -> learner.beta: 0.02" in ended.err
    assert "top_p: 0.9; we have no such setting" in ended.err
    new = tmp_path / "ours.yaml"
    assert command_line("convert", "trl-config", str(file), "--to", str(new)).status == 0
    assert load_config(new).learner.beta == 0.02
    again = command_line("convert", "trl-config", str(file), "--to", str(new))
    assert (again.status, "exists; name a new file" in again.err) == (2, True)


@pytest.mark.parametrize("stop", ["</action>", ["</action>"]])
def test_stop_strings(tmp_path: Path, stop: str | list[str]) -> None:
    result = converted(tmp_path, generation_kwargs={"stop": stop})
    assert ours(result).prompt.stop == ("</action>",)
    assert not any("generation_kwargs" in line for line in result.lost)
    others = converted(tmp_path, generation_kwargs={"stop": stop, "bad_words": ["no"]})
    assert any("generation_kwargs" in line for line in others.lost)
