"""Sampler against learner on the way that training takes, for the sources that have a trap: tied
embeddings, and experts, which the engine packs for its kernel.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from agent_rl.commands.bench.gpu.checks import mean_difference, move_every_weight
from agent_rl.config import Config
from agent_rl.config.model import ModelSettings
from agent_rl.learner.learner import Learner, LearnerContext
from agent_rl.learner.samples import TrainingSample, samples_from_group
from agent_rl.policy.from_scratch import init_model
from agent_rl.policy.loading import load_policy
from agent_rl.policy.saving import save_policy
from agent_rl.policy.weight_sync import ServingCopy
from agent_rl.training.session import Session
from rollouts import TrajectoryGroup
from tests.builders.models import make_tokenizer

pytestmark = pytest.mark.engine


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small Llama with transformers' own initial weights and tied embeddings, and a tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=304,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)  # type: ignore[no-untyped-call]
    make_tokenizer().save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    """A policy with experts from scratch. Their width is no multiple of 32, as the kernel wants."""
    sizes = ModelSettings(
        hidden_size=64,
        layers=2,
        heads=2,
        kv_heads=1,
        intermediate_size=80,
        experts=4,
        experts_per_token=2,
        context_length=512,
    )
    tokenizer = make_tokenizer()
    model = init_model(sizes, tokenizer)
    # Far from uniform outputs, and routers that are sure of their choice.
    move_every_weight(model, 0.1)
    save_policy(model, tokenizer, tmp_path)
    return tmp_path


@contextmanager
def session_of(source: Path, dtype: str) -> Iterator[tuple[Session, Any]]:
    """Yield a session, and the model whose weights it serves."""
    config = Config.model_validate(
        {
            "run_folder": str(source / "run"),
            "env": {"id": "tests.builders.number_env:NumberEnv"},
            "episode": {"max_turns": 4, "max_action_tokens": 8},
            "workers": {"count": 1, "envs_per_worker": 8},
            "serving": {
                "kv_cache_gib": 0.25,
                "max_concurrent": 16,
                "dtype": dtype,
                # A new engine would have the new weights, however the old one loads them.
                "max_restarts": 0,
            },
            "learner": {
                "dtype": dtype,
                "optimizer_steps": 2,
                "learning_rate": 1e-4,
                "threads": 1,
            },
        }
    )
    model, tokenizer = load_policy(str(source))
    copy = ServingCopy(model, tokenizer, dtype)
    with Session(config, source, train=True) as session:
        session.serve(copy)
        yield session, model
    copy.close()


@pytest.fixture
def served(source: Path) -> Iterator[tuple[Session, Any]]:
    with session_of(source, "bfloat16") as session_and_model:
        yield session_and_model


def play(session: Session) -> list[TrajectoryGroup]:
    return session.play(session.tasks("train"), "play", group_size=3, temperature=1.0, seed=0)


def samples_of(groups: list[TrajectoryGroup]) -> list[TrainingSample]:
    samples = [sample for group in groups for sample in samples_from_group(group)]
    assert sum(sample.agent_tokens for sample in samples) > 500
    return samples


def test_sampler_and_learner_agree_after_an_update_of_every_weight(
    served: tuple[Session, Any],
) -> None:
    session, model = served
    assert model.lm_head.weight is model.model.embed_tokens.weight, (
        "the learner's own model stays tied"
    )
    learner = Learner(model, session.config.learner, LearnerContext(total_steps=2))
    groups = play(session)
    assert mean_difference(learner, samples_of(groups)) < 0.05

    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    samples = samples_of(groups)
    metrics = learner.update(
        [
            replace(sample, advantages=((-1.0) ** i,) * sample.turns)
            for i, sample in enumerate(samples)
        ]
    )
    assert 0.0 < metrics["mismatch_abs_mean"] < 0.05
    assert all(
        not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters()
    )
    move_every_weight(model)
    session.sync()
    groups = play(session)
    versions = {
        turn.completion.policy_version
        for group in groups
        for t in group.trajectories
        for turn in t.turns
    }
    assert versions == {1}
    assert mean_difference(learner, samples_of(groups)) < 0.05

    # What this test would see if the engine kept the old head, or all of the old weights.
    model.lm_head.weight = torch.nn.Parameter(before["model.embed_tokens.weight"])
    assert mean_difference(learner, samples_of(groups)) > 0.15
    model.load_state_dict({**before, "lm_head.weight": before["model.embed_tokens.weight"]})
    assert mean_difference(learner, samples_of(groups)) > 0.15


@pytest.mark.slow
def test_with_experts_they_agree_after_each_of_two_updates(experts: Path) -> None:
    with session_of(experts, "float32") as (session, model):
        learner = Learner(model, session.config.learner, LearnerContext(total_steps=2))
        groups = play(session)
        assert mean_difference(learner, samples_of(groups)) < 1e-5
        samples = samples_of(groups)
        metrics = learner.update(
            [
                replace(sample, advantages=((-1.0) ** i,) * sample.turns)
                for i, sample in enumerate(samples)
            ]
        )
        assert metrics["mismatch_abs_mean"] < 1e-5
        # The second one shows whether the engine is as it was before the first.
        for version in (1, 2):
            before = {
                name: parameter.detach().clone() for name, parameter in model.named_parameters()
            }
            move_every_weight(model, 0.05)
            session.sync()
            groups = play(session)
            turns = [turn for g in groups for t in g.trajectories for turn in t.turns]
            assert {turn.completion.policy_version for turn in turns} == {version}
            assert mean_difference(learner, samples_of(groups)) < 1e-5
        # What this test would see if the engine kept the old experts only.
        stacks = {name: weight for name, weight in before.items() if ".experts." in name}
        model.load_state_dict({**model.state_dict(), **stacks})
        assert mean_difference(learner, samples_of(groups)) > 0.01
