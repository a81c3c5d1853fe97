"""`agent-rl bench reading`: does a policy read, or does it know rooms by heart?

The policy plays greedily. Then one name is exchanged in all that it had read before one of its
commands, and it is asked again (`exchanges`).
"""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from transformers import GenerationConfig, PreTrainedModel

from agent_rl.commands.bench.exchanges import NameExchange, Outcome, exchanges_of
from agent_rl.config import Config, ConfigError
from agent_rl.display import console, interval, percent, progress, say
from agent_rl.evaluation.playing import tasks_by_split
from agent_rl.evaluation.statistics import wilson_interval
from agent_rl.files import write_json
from agent_rl.policy.loading import load_policy
from agent_rl.tasks import open_environment, training_tasks
from envs import Task, TextEnv
from envs.registry import object_reader
from rollouts import Completion, FinishReason, Trajectory
from rollouts.episode import run_episode
from rollouts.renderer import Renderer, make_renderer
from rollouts.rendering.chat_template import use_template
from rollouts.rendering.conversation import Prompt
from rollouts.rendering.end_tokens import end_ids
from rollouts.rendering.histories import make_history
from rollouts.seeds import derive_seed
from rollouts.serving.dtypes import chosen_dtype
from rollouts.serving.model_config import model_context_length
from rollouts.serving.sampling import Sampler

_OUTCOMES: tuple[Outcome, ...] = ("follows", "keeps", "other")


@dataclass(frozen=True, kw_only=True)
class AskedAgain:
    """A command, and the one after a name in the prompt was exchanged."""

    split: str
    """The split of the game."""
    task: str
    """The game's id."""
    in_seen_room: bool
    """Whether the game's scene is among those of the training tasks."""
    turn: int
    """The index of the turn in the episode."""
    is_furniture: bool
    """Whether the exchanged name is that of furniture; else of a thing."""
    name: str
    """The name in the prompt as it was."""
    other_name: str
    """The name that took its place."""
    before: str
    """The command to the prompt as it was."""
    after: str
    """The command to the changed prompt."""
    outcome: Outcome
    """Whether the command follows the text."""


@dataclass(frozen=True, kw_only=True)
class ReadingRow:
    """How many commands followed, kept the old name, or did something else."""

    what: str
    """`furniture` or `things`."""
    rooms: str
    """`seen` or `unseen` in training, or `all`."""
    counts: Mapping[Outcome, int]
    """The number of commands by outcome."""

    @property
    def n(self) -> int:
        """All commands of the row."""
        return sum(self.counts.values())

    def record(self) -> dict[str, Any]:
        """The row for JSON: a share of 0 to 1 and its 95 % interval for each outcome."""
        shares: dict[str, Any] = {}
        for outcome, count in self.counts.items():
            ends = wilson_interval(count, self.n)
            shares[outcome] = {"share": count / self.n, "interval": ends}
        return {"what": self.what, "rooms": self.rooms, "n": self.n, **shares}


class GreedyPolicy:
    """Answers greedily, with transformers in this process: no engine has to start."""

    def __init__(self, model: PreTrainedModel) -> None:
        """Answer with a model."""
        self._model = model.eval()  # type: ignore[no-untyped-call]

    async def complete(
        self,
        token_ids: Sequence[int],
        *,
        max_tokens: int,
        temperature: float,
        stop_token_ids: Sequence[int],
        seed: int | None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """Complete a prompt (see `rollouts.types.Policy`); log-probs are 0, nobody needs them."""
        assert temperature == 0.0, temperature
        # On the model: a setting that is not given in a call would come from the model's own.
        self._model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, eos_token_id=list(stop_token_ids), pad_token_id=stop_token_ids[0]
        )
        ids_BT = torch.tensor([token_ids], device=self._model.device)
        with torch.inference_mode():
            output: Any = self._model.generate(
                inputs=ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=max_tokens
            )
        sampled = tuple(output[0, len(token_ids) :].tolist())
        ended = sampled[-1] in stop_token_ids
        return Completion(
            token_ids=sampled,
            logprobs=(0.0,) * len(sampled),
            finish_reason=FinishReason.STOP if ended else FinishReason.LENGTH,
            versions=((0, 0),),
        )


def bench_reading(config: Config, source: str, json_file: Path | None) -> list[ReadingRow]:
    """Probe the policy at `source` on the games of `config.evaluation`; print the shares.

    Raises:
        ConfigError: no command named an object that the environment can read.
        ValueError: the policy or the environment cannot be used.
    """
    asked = list(_ask_again(config, source))
    if not asked:
        raise ConfigError(
            f"env.id {config.env.id}: no command of the policy named an object that the texts "
            "tell of, or the environment cannot read its commands; play more games (--games), "
            "and see `object_named` in docs/environments.md"
        )
    rows = rows_of_reading(asked)
    console.print(reading_shares(rows, source))
    if json_file is not None:
        record = {
            "policy": source,
            "splits": config.evaluation.split,
            "games": config.evaluation.tasks,
            "rows": [row.record() for row in rows],
            "asked": [asdict(one) for one in asked],
        }
        write_json(json_file, record)
        say(f"written to {json_file}")
    return rows


def rows_of_reading(asked: Sequence[AskedAgain]) -> list[ReadingRow]:
    """The rows of furniture and of things, by whether the room was seen; empty ones are left out.

    With rooms of one sort only, there is no row for all.
    """
    rows = []
    for what, is_furniture in (("furniture", True), ("things", False)):
        of_kind = [one for one in asked if one.is_furniture is is_furniture]
        by_room = {
            "seen": [one for one in of_kind if one.in_seen_room],
            "unseen": [one for one in of_kind if not one.in_seen_room],
        }
        if all(by_room.values()):
            by_room["all"] = of_kind
        for rooms, some in by_room.items():
            if some:
                outcomes = [one.outcome for one in some]
                counts = {outcome: outcomes.count(outcome) for outcome in _OUTCOMES}
                rows.append(ReadingRow(what=what, rooms=rooms, counts=counts))
    return rows


def reading_shares(rows: Sequence[ReadingRow], title: str) -> Table:
    """The table: shares in percent, with 95 % intervals."""
    table = Table(
        title=f"{title}: a name in the text is exchanged; the command ... (%)",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    for name in ("name of", "rooms", "n", "follows", "keeps the old", "other"):
        table.add_column(name, justify="left" if name in ("name of", "rooms") else "right")
    for row in rows:
        cells = []
        for count in row.counts.values():
            ends = interval(wilson_interval(count, row.n), digits=0)
            cells.append(f"{percent(count / row.n)} ({ends})")
        table.add_row(row.what, row.rooms, str(row.n), *cells)
    return table


def _ask_again(config: Config, source: str) -> Iterator[AskedAgain]:
    """Play each game, and ask again after each exchange."""
    env = open_environment(config)
    try:
        tasks = [task for of_split in tasks_by_split(config, env).values() for task in of_split]
        scenes = {task.scene for task in training_tasks(config, env.tasks)}
        player = _Player.load(config, source)
        read = object_reader(config.env.id)
        with progress("reading", len(tasks)) as advance:
            for task in tasks:
                episode = asyncio.run(player.play(env, task))
                rng = random.Random(derive_seed(config.seed, "reading", task.id))
                for exchange in exchanges_of(episode, read, player.tokenizer, rng):
                    after = asyncio.run(player.ask(exchange.prompt))
                    yield _asked(task, exchange, after, in_seen_room=task.scene in scenes)
                advance(episode.stop_reason.value)
    finally:
        env.close()


def _asked(task: Task, exchange: NameExchange, after: str, *, in_seen_room: bool) -> AskedAgain:
    return AskedAgain(
        split=task.split,
        task=task.id,
        in_seen_room=in_seen_room,
        turn=exchange.turn,
        is_furniture=exchange.named.is_furniture,
        name=exchange.named.name,
        other_name=exchange.named.other_name,
        before=exchange.said,
        after=after,
        outcome=exchange.outcome(after),
    )


@dataclass(frozen=True, kw_only=True)
class _Player:
    """Plays greedily, with the prompts that training and evaluation write."""

    config: Config
    policy: GreedyPolicy
    tokenizer: Any
    renderer: Renderer
    context_length: int

    @classmethod
    def load(cls, config: Config, source: str) -> "_Player":
        gpu = torch.cuda.is_available()
        dtype = getattr(torch, chosen_dtype(config.serving.dtype, gpu=gpu))
        model, tokenizer = load_policy(source, dtype, revision=config.model.revision_of(source))
        model.to("cuda" if gpu else "cpu")  # type: ignore[arg-type]
        use_template(tokenizer, config.prompt)
        with tempfile.TemporaryDirectory() as folder:
            model.config.save_pretrained(folder)
            context_length = model_context_length(folder, config.serving)
        ends = end_ids(model.config.eos_token_id, source)
        return cls(
            config=config,
            policy=GreedyPolicy(model),
            tokenizer=tokenizer,
            renderer=make_renderer(tokenizer, config.prompt, ends=ends),
            context_length=context_length,
        )

    async def play(self, env: TextEnv, task: Task) -> Trajectory:
        return await run_episode(
            env,
            task,
            self.policy,
            self.renderer,
            self.config.episode,
            context_length=self.context_length,
            temperature=0.0,
            history=make_history(self.config.prompt),
        )

    async def ask(self, prompt: tuple[int, ...]) -> str:
        """The command to a whole prompt."""

        async def ask(request: Awaitable[Completion]) -> Completion:
            return await request

        sampler = Sampler(
            policy=self.policy,
            renderer=self.renderer,
            settings=self.config.episode,
            temperature=0.0,
            seed=None,
            ask=ask,
        )
        answer = await sampler.answer(Prompt(token_ids=prompt, is_new=True))
        return self.renderer.parse(answer.action, before=answer.ids_before_action).said
