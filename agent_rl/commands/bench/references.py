"""Plays the turns of recorded episodes again, without the pool: what a rollout is compared with.

Each way samples as many ids after each prompt as the policy did in the episode, so all ways have
the same work:

- `raw`: vLLM's engine in a bare loop. An episode's turns come one after the other, and as many
  episodes go on at once as the pool has places. There is no environment, and no text.
- `lock_step`: all episodes of a batch take a turn together. The engine answers all of them, then
  all environments step. The next batch begins when the longest episode has ended.
- `generate`: transformers' `generate` on the turns of `lock_step`, padded on the left. It computes
  each prompt from its beginning.

They run in a process of their own, which is a spare copy of the policy's.
"""

import multiprocessing
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel

from agent_rl.commands.bench.turns import Load, Replayed, TurnRequest, rounds, turn_requests
from agent_rl.config import Config
from agent_rl.display import held_stderr
from agent_rl.policy.loading import load_policy
from envs import TextEnv, make_env
from rollouts import Trajectory
from rollouts.processes.lifeline import end_with
from rollouts.processes.openmp import OPENMP
from rollouts.renderer import Renderer, load_renderer
from rollouts.seeds import derive_seed
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.vllm_engine import sampling_params, start_engine

Way = Literal["raw", "lock_step", "generate"]
"""The ways to play the turns again."""


class ReferenceProcesses:
    """Processes with an engine each. Use them as a context manager."""

    def __init__(self, config: Config, folder: Path, count: int) -> None:
        """Start `count` engines with the weights in `folder`.

        Raises:
            ValueError: the model or the settings cannot be served.
        """
        context = multiprocessing.get_context("spawn")
        self._processes = [ProcessPoolExecutor(1, mp_context=context) for _ in range(count)]
        try:
            starting = []
            for number, process in enumerate(self._processes):
                with _environment(_variables(config, number)):
                    starting.append(process.submit(_start, config, folder, os.getpid()))
            for future in starting:
                future.result()
        except BaseException:
            self.close()
            raise

    def play(
        self, way: Way, load: Load, *, engines: int = 1, limit_seconds: float = 0.0
    ) -> Replayed:
        """Play the load in one way; the prefix cache is empty at first.

        Args:
            engines: over how many of the processes it is dealt.
            limit_seconds: `generate` stops after this time.
        """
        parts = load.parts(engines)
        playing = [
            process.submit(_play, way, part, limit_seconds)
            for process, part in zip(self._processes, parts, strict=False)
        ]
        played = [future.result() for future in playing]
        return Replayed(
            tokens=sum(part.tokens for part in played),
            seconds=max(part.seconds for part in played),
            prompt_tokens=sum(part.prompt_tokens for part in played),
            cached_tokens=sum(part.cached_tokens for part in played),
            steps=sum(part.steps for part in played),
            share=sum(part.share for part in played) / len(played),
        )

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.shutdown(cancel_futures=True)

    def __enter__(self) -> "ReferenceProcesses":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Reference:
    """The engine of this process, and what else the ways need, made when first needed."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._config, self._folder = config, folder
        self._engine = start_engine(folder, config.serving)
        self._envs: list[TextEnv] = []
        self._renderer: Renderer | None = None
        self._model: PreTrainedModel | None = None
        self._numbers = 0

    def play(self, way: Way, load: Load, limit_seconds: float) -> Replayed:
        assert self._engine.reset_prefix_cache()
        if way == "raw":
            return self._raw(load)
        if way == "lock_step":
            return self._lock_step(load)
        return self._generate(load, limit_seconds)

    def _raw(self, load: Load) -> Replayed:
        scripts = deque(iter(requests) for requests in _scripts(load))
        playing: dict[str, Iterator[TurnRequest]] = {}
        done = _Counts()

        def go_on(script: Iterator[TurnRequest]) -> bool:
            request = next(script, None)
            if request is not None:
                playing[self._ask(request, load)] = script
            return request is not None

        begin = time.perf_counter()
        while scripts and len(playing) < load.places:
            go_on(scripts.popleft())
        while playing:
            done.steps += 1
            for output in self._engine.step():
                if output.finished:
                    done.add(output)
                    if not go_on(playing.pop(output.request_id)) and scripts:
                        go_on(scripts.popleft())
        return done.replayed(time.perf_counter() - begin)

    def _lock_step(self, load: Load) -> Replayed:
        while len(self._envs) < load.places:
            self._envs.append(make_env(self._config.env.id, **self._config.env.options))
        self._renderer = self._renderer or load_renderer(self._folder, self._config.prompt)
        scripts = dict(zip(map(id, load.episodes), _scripts(load), strict=True))
        envs: dict[int, TextEnv] = {}
        done = _Counts()
        begin = time.perf_counter()
        for turn, active in rounds(load.episodes, load.places):
            if turn == 0:
                envs = dict(zip(map(id, active), self._envs, strict=False))
                for episode in active:
                    _reset(envs[id(episode)], episode, self._renderer)
            for episode in active:
                self._ask(scripts[id(episode)][turn], load)
            while self._engine.has_unfinished_requests():
                done.steps += 1
                for output in self._engine.step():
                    done.add(output)
            for episode in active:
                _step(envs[id(episode)], episode, turn, self._renderer)
        return done.replayed(time.perf_counter() - begin)

    def _generate(self, load: Load, limit_seconds: float) -> Replayed:
        """Play turns in a random order until the time is up: their prompts differ in length."""
        scripts = dict(zip(map(id, load.episodes), _scripts(load), strict=True))
        turns = [
            [scripts[id(episode)][turn] for episode in active]
            for turn, active in rounds(load.episodes, load.places)
        ]
        random.Random(load.seed).shuffle(turns)
        if self._model is None:
            self._model = self._load_model()
            generate(self._model, turns[0], load.temperature)  # not timed: it builds kernels
        tokens = played = 0
        begin = time.perf_counter()
        for requests in turns:
            tokens += generate(self._model, requests, load.temperature)
            played += len(requests)
            if time.perf_counter() - begin > limit_seconds:
                break
        return Replayed(
            tokens=tokens,
            seconds=time.perf_counter() - begin,
            share=played / sum(map(len, turns)),
        )

    def _load_model(self) -> PreTrainedModel:
        gpu = torch.cuda.is_available()
        dtype = getattr(torch, chosen_dtype(self._config.serving.dtype, gpu=gpu))
        model, _ = load_policy(str(self._folder), dtype)
        model.to("cuda" if gpu else "cpu").eval()  # type: ignore[arg-type]
        return model

    def _ask(self, request: TurnRequest, load: Load) -> str:
        """Give the engine a request; returns its id."""
        # Without stop ids no id ends it early. `min_tokens` would cost the engine more work.
        params = sampling_params(
            max_tokens=request.tokens,
            temperature=load.temperature,
            stop_token_ids=(),
            seed=request.seed,
            ignore_eos=True,
        )
        self._numbers += 1
        number = str(self._numbers)
        self._engine.add_request(number, {"prompt_token_ids": list(request.prompt)}, params)
        return number


@torch.inference_mode()
def generate(model: PreTrainedModel, requests: Sequence[TurnRequest], temperature: float) -> int:
    """Sample with log-probs after all prompts at once; returns how many ids were asked for.

    The batch goes on until its longest request has its ids.
    """
    torch.manual_seed(requests[0].seed)
    prompts = [torch.tensor(request.prompt) for request in requests]
    ids_BT = pad_sequence(prompts, batch_first=True, padding_side="left").to(model.device)
    masks = [torch.ones_like(prompt) for prompt in prompts]
    mask_BT = pad_sequence(masks, batch_first=True, padding_side="left").to(model.device)
    how: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        how = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    # No id ends a row, so that each has the length that was asked for.
    config = GenerationConfig(pad_token_id=0, **how)  # type: ignore[no-untyped-call]
    model.generation_config = config
    output: Any = model.generate(  # type: ignore[operator]
        inputs=ids_BT,
        attention_mask=mask_BT,
        max_new_tokens=max(request.tokens for request in requests),
        return_dict_in_generate=True,
        output_scores=True,
    )
    model.compute_transition_scores(  # type: ignore[operator]
        output.sequences, output.scores, normalize_logits=True
    ).cpu()
    return sum(request.tokens for request in requests)


class _Counts:
    """Counts the ids of vLLM's outputs, and the engine's steps."""

    def __init__(self) -> None:
        self._tokens = self._prompt = self._cached = self.steps = 0

    def add(self, output: Any) -> None:
        self._tokens += len(output.outputs[0].token_ids)
        self._prompt += len(output.prompt_token_ids)
        self._cached += output.num_cached_tokens or 0

    def replayed(self, seconds: float) -> Replayed:
        return Replayed(
            tokens=self._tokens,
            seconds=seconds,
            prompt_tokens=self._prompt,
            cached_tokens=self._cached,
            steps=self.steps,
        )


def _scripts(load: Load) -> list[list[TurnRequest]]:
    episodes = enumerate(load.episodes)
    return [turn_requests(episode, derive_seed(load.seed, n)) for n, episode in episodes]


def _reset(env: TextEnv, episode: Trajectory, renderer: Renderer) -> None:
    observation, info = env.reset(seed=episode.task.seed, options={"task": episode.task})
    renderer.first(observation, info.get("admissible_commands"))


def _step(env: TextEnv, episode: Trajectory, turn: int, renderer: Renderer) -> None:
    """Do what the policy did in a turn, with the work that a worker has with it."""
    completion, action = episode.turns[turn].completion, episode.turns[turn].action
    renderer.parse(completion)
    if episode.turns[turn].kind != "action":
        return
    observation, _, _, _, info = env.step(action.said)
    renderer.following(observation, info.get("admissible_commands"), completion.finish_reason)


_reference: _Reference | None = None
"""That of this process, if it is a process of `ReferenceProcesses`."""


def _start(config: Config, folder: Path, owner: int) -> None:
    global _reference
    end_with(owner)
    with held_stderr():
        _reference = _Reference(config, folder)


def _play(way: Way, load: Load, limit_seconds: float) -> Replayed:
    assert _reference is not None
    return _reference.play(way, load, limit_seconds)


def _variables(config: Config, number: int) -> dict[str, str]:
    """The environment variables of the process with this number."""
    variables = {"OMP_NUM_THREADS": str(config.serving.threads), **OPENMP}
    if torch.cuda.device_count() > 1:
        variables["CUDA_VISIBLE_DEVICES"] = str(number)
    return variables


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the processes that are started within this context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ |= values
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
