"""Episodes of an environment's own expert, with mistakes mixed in, for the supervised warm start."""

import asyncio
import random
import re
from collections.abc import Collection, Sequence

from envs import Task, TextEnv
from rollouts.episode import EpisodeOver, Recorder, act, check_first_prompt
from rollouts.renderer import Renderer
from rollouts.settings import EpisodeSettings
from rollouts.types import Completion, FinishReason, ParsedAction, StopReason, Trajectory

EXPERT_VERSION = -1
"""The `policy_version` of what no policy sampled."""

_NAME = re.compile(r"[a-z]+ \d+")
"""What commands call a thing: "book 2"."""
_ADMISSIBLE, _REPEATED = 0.5, 0.5
"""The share of new mistakes that the environment accepts, and of the others that are made once more."""
_DRAWS = 20


async def run_expert_episode(
    env: TextEnv,
    task: Task,
    renderer: Renderer,
    settings: EpisodeSettings,
    *,
    noise: float,
    seed: int,
    context_length: int,
) -> Trajectory:
    """Follow `info["expert_command"]`; with probability `noise` a wrong command is executed instead (see `Mistakes`).

    A wrong command is part of the *prompt* of the turn after it (action mask 0, its text in that turn's
    `observation`), so that the learner sees how to recover from mistakes and is never trained to make them; what it
    earned is left out. The episode is a success only if an expert's action won it; won by a wrong command it is
    `TRUNCATED`, as it is where the expert has no command, and `ENV_ERROR` where no expert's action came before that.
    The log-probs are 0: nothing was sampled.

    Raises:
        ValueError: the environment has no expert, or the task, the first prompt or an action does not fit.
    """
    record = Recorder(env, task, settings.timeout_seconds)
    mistakes = Mistakes(noise, random.Random(seed))
    try:
        info = record.reset()
        if "expert_command" not in info:
            raise ValueError(
                f"task {task.id!r}: environment {task.env_id!r} gives no expert_command, which a warm start needs; "
                "ask it for its expert (env.options, expert: true), or train without a warm start"
            )
        delta = renderer.first(record.observation, record.admissible)
        check_first_prompt(task, len(delta), settings, context_length)
        length = len(delta)
        for _ in range(settings.max_turns):
            command = info.get("expert_command")
            if not command:
                raise EpisodeOver(StopReason.TRUNCATED)
            mistake = mistakes.next(command, record.admissible)
            ids = renderer.action_ids(command if mistake is None else mistake)
            _check_action(task, command if mistake is None else mistake, len(ids), settings)
            if length + settings.max_action_tokens > context_length:
                raise EpisodeOver(StopReason.CONTEXT_FULL)
            if mistake is None:
                info = act(record, delta, _completion(ids), ParsedAction(text=command, command=command), settings)
                delta, shown = (), ""
            else:
                shown = f"{record.observation}\n> {mistake}\n"
                _, ending, info = record.step(mistake)
                if ending is not None:
                    raise EpisodeOver(StopReason.TRUNCATED if ending is StopReason.SUCCESS else ending)
                delta = (*delta, *ids)
            observed = renderer.following(record.observation, record.admissible, FinishReason.STOP)
            length += len(ids) + len(observed)
            delta, record.observation = (*delta, *observed), shown + record.observation
            await asyncio.sleep(0)
    except EpisodeOver as over:
        return _end(record, over.reason, over.error)
    return _end(record, StopReason.MAX_TURNS)


def _end(record: Recorder, reason: StopReason, error: str = "") -> Trajectory:
    if reason.trains and not record.turns:
        return record.end(StopReason.ENV_ERROR, f"the episode ended ({reason.value}) before the expert acted")
    return record.end(reason, error)


class Mistakes:
    """The wrong commands of one episode: with probability `share` a new one, half of them refused by the environment.

    A refused one is repeated half of the time, as small models do when nothing happens: what follows shows the way out.
    """

    def __init__(self, share: float, rng: random.Random) -> None:
        self._share, self._rng = share, rng
        self._offered: set[str] = set()
        self._refused: str | None = None

    def next(self, command: str, admissible: Sequence[str] | None) -> str | None:
        """What is done instead of the expert's `command`; None where that is done."""
        self._offered |= {command, *(admissible or ())}
        again = self._refused if self._rng.random() < _REPEATED else None
        self._refused = None
        if again is not None and again not in (command, *(admissible or ())):
            self._refused = again
            return again
        if self._rng.random() >= self._share:
            return None
        others = [other for other in admissible or () if other != command]
        if others and self._rng.random() < _ADMISSIBLE:
            return self._rng.choice(others)
        self._refused = mixed_up(self._offered, {command, *others}, self._rng)
        return self._refused


def mixed_up(offered: Collection[str], allowed: Collection[str], rng: random.Random) -> str:
    """A command that is not `allowed`: one of those offered so far, perhaps with another's name in place of its own.

    So it is out of place ("go to desk 1" at the desk) or of another thing ("take book 1 from bed 1": no book there).
    """
    names = sorted({name for command in offered for name in _NAME.findall(command)})
    for _ in range(_DRAWS if names else 0):
        command = rng.choice(sorted(offered))
        found = list(_NAME.finditer(command))
        if found:
            place = rng.choice(found)
            command = command[: place.start()] + rng.choice(names) + command[place.end() :]
        if command not in allowed:
            return command
    return f"{min(offered)} 1"


def _completion(ids: tuple[int, ...]) -> Completion:
    return Completion(
        token_ids=ids, logprobs=(0.0,) * len(ids), finish_reason=FinishReason.STOP, policy_version=EXPERT_VERSION
    )


def _check_action(task: Task, command: str, length: int, settings: EpisodeSettings) -> None:
    if length > settings.max_action_tokens:
        raise ValueError(
            f"task {task.id!r}: the action {command!r} takes {length} tokens with its end token, but "
            f"episode.max_action_tokens is {settings.max_action_tokens}; raise it"
        )
