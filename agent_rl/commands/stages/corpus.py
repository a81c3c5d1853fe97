"""Text of an environment, on which `agent-rl init` trains a tokenizer."""

from typing import Any

from agent_rl.config import Config
from agent_rl.display import progress, say
from agent_rl.tasks import open_environment, pick_evenly, training_tasks
from envs import Task, TextEnv
from envs.own_thread import has_hung
from envs.text_env import EnvWrapper
from rollouts import StopReason, Trajectory
from rollouts.mistakes import Mistakes
from rollouts.players import RandomPlayer
from rollouts.processes.loops import run
from rollouts.renderer import byte_renderer
from rollouts.scripted_episode import run_scripted_episode
from rollouts.seeds import derive_seed
from rollouts.settings import EpisodeSettings
from rollouts.workers.failed_tasks import FailedTasks

_TURNS = 10
"""The length of a walk."""
_NOISE = 0.1
"""The share of wrong commands; their refusals become whole tokens too."""
_NUMBERS = ("", *(f" {number}" for number in range(1, 10)))
"""What follows a word: nothing, or the number of a thing, as in `drawer 1`."""
_WORD_REPEATS = 20
"""How often each word occurs: byte-pair merging then makes whole tokens of rare words too."""


def corpus(config: Config) -> list[str]:
    """The environment's words, and the text of random walks through some of its training tasks.

    Each of `env.words()` occurs alone and with the numbers 1 to 9. There is one walk for each of
    `model.corpus_tasks` tasks; it gives the observations and the commands to choose from.

    The walks are played in this process, without Ray. A walk in which the environment fails is left
    out, and a line says so.

    Raises:
        ValueError: the environment failed in every walk, or in more than `workers.max_failed_share`
            of them; or a call of it does not return.
    """
    env = open_environment(config)
    tasks = pick_evenly(training_tasks(config, env.tasks), config.model.corpus_tasks, config.seed)
    settings = config.episode.model_copy(update={"max_turns": _TURNS})
    texts = _words(env)
    player = RandomPlayer(env, config.seed)
    failed = FailedTasks(config.env.id, most=config.workers.max_failed_share, tasks=len(tasks))
    with progress("reading the environment", len(tasks)) as advance:
        for task in tasks:
            recording = RecordingEnv(env)
            episode = _walk(recording, task, player, settings, config.seed)
            failed.add([episode])
            failed.check()
            if episode.stop_reason is not StopReason.ENV_ERROR:
                texts += recording.texts()
            elif has_hung(env):
                env = open_environment(config)
            advance(task.family)
    env.close()
    if failed.summary():
        say(failed.summary())
    return texts


class RecordingEnv(EnvWrapper):
    """An environment that keeps its answers during one episode."""

    def __init__(self, env: TextEnv) -> None:
        super().__init__(env)
        # Whole answers: they are taken apart only after they have been checked for faults.
        self._answers: list[tuple[Any, ...]] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        answer = super().reset(seed=seed, options=options)
        self._answers.append(answer)
        return answer

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        answer = super().step(action)
        self._answers.append(answer)
        return answer

    def texts(self) -> list[str]:
        """The observations, each followed by the commands to choose from.

        The commands after the last observation are left out, because nobody chooses from them. Call
        it only if no answer was faulty.
        """
        texts: list[str] = []
        for observation, *_, info in self._answers[:-1]:
            texts += [observation, *(info.get("admissible_commands") or ())]
        return [*texts, self._answers[-1][0]]


def _words(env: TextEnv) -> list[str]:
    texts = []
    for word in env.words():
        # With the space before it, as a word stands in the middle of a sentence.
        texts += [f" {word}{number}" for number in _NUMBERS]
    return texts * _WORD_REPEATS


def _walk(
    env: TextEnv, task: Task, player: RandomPlayer, settings: EpisodeSettings, seed: int
) -> Trajectory:
    """One episode of random commands, some of them wrong."""
    # Each walk has its own seed: with one seed for all, either every walk makes a wrong command at
    # the same turn or none does, and then no refusal is in the corpus.
    own_seed = derive_seed(seed, "corpus", task.id)
    episode = run_scripted_episode(
        env, task, player, byte_renderer(), settings, mistakes=Mistakes(_NOISE, seed=own_seed)
    )
    return run(episode)
