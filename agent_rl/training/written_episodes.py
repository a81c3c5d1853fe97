"""Episodes of a file (`sft.episodes_file`) for the warm start, in place of the expert's."""

from collections.abc import Sequence
from pathlib import Path

from agent_rl.config import Config, ConfigError
from agent_rl.display import say
from agent_rl.runs.chat_files import read_chats
from agent_rl.runs.chats import ChatEpisode
from agent_rl.training.session import Session
from envs import Task
from rollouts import StopReason, Trajectory
from rollouts.renderer import Renderer
from rollouts.rendering.histories import make_history
from rollouts.rendering.written import WrittenTurn, written_episode


def episodes_of_file(config: Config, session: Session) -> list[Trajectory]:
    """Read `sft.episodes_file` in the tokens of the session's policy, and say what was found.

    Raises:
        ConfigError: there is no such file, a line is no episode, or an answer does not fit; or the
            config asks for summaries.
    """
    path = Path(config.sft.episodes_file).expanduser()
    if config.prompt.history == "summary":
        raise ConfigError(
            "prompt.history: summary: the answers of a file sum nothing up; warm-start with "
            "another history, such as prompt.history=window"
        )
    chats = read_chats(path)
    renderer, context_length = session.renderer(), session.context_length()
    episodes = written_episodes(chats, config, renderer, context_length)
    cut = sum(episode.stop_reason is StopReason.CONTEXT_FULL for episode in episodes)
    tokens = sum(len(episode.token_ids) for episode in episodes)
    note = f"; {cut} end early, where the context is full" if cut else ""
    say(f"{path}: {len(episodes)} episodes, {tokens:,} tokens{note}")
    return episodes


def written_episodes(
    chats: Sequence[ChatEpisode], config: Config, renderer: Renderer, context_length: int
) -> list[Trajectory]:
    """Return chats as episodes.

    Raises:
        ConfigError: an answer does not fit; the message names its line.
    """
    history = make_history(config.prompt)
    episodes = []
    for number, chat in enumerate(chats, start=1):
        turns = [
            WrittenTurn(observation=turn.observation, answer=turn.answer, trained=turn.trained)
            for turn in chat.turns
        ]
        task = Task(
            env_id=config.env.id,
            split=config.env.train_split,
            family=chat.family or "file",
            id=chat.task or chat.id or str(number),
        )
        try:
            episode = written_episode(
                turns,
                task,
                renderer,
                history,
                success=chat.success,
                max_tokens=config.episode.max_sampled_tokens,
                context_length=context_length,
            )
        except ValueError as error:
            raise ConfigError(f"{chat.place}: {error}") from error
        episodes.append(episode)
    return episodes
