"""The work of a rollout step in tokens, as an estimate needs it. Light to import."""

from dataclasses import dataclass
from typing import Self

from agent_rl.config import Config, ConfigError


@dataclass(frozen=True, kw_only=True)
class StepLoad:
    """The episodes of a rollout step: all alike, with as many tokens in each turn."""

    episodes: int
    """The episodes."""
    turns: int
    """Turns of each."""
    observation_tokens: int
    """Tokens that the environment adds in a turn."""
    action_tokens: int
    """Tokens that the policy samples in a turn."""
    shown_turns: int | None = None
    """Turns before the present one that a prompt shows; None is the whole history."""

    @classmethod
    def of(
        cls,
        config: Config,
        context: int,
        *,
        turns: int | None = None,
        observation_tokens: int = 100,
        action_tokens: int | None = None,
    ) -> Self:
        """Return the load of a config; turns and actions are as long as it allows, if not given.

        An episode that would not fit into the context has fewer turns.

        Args:
            config: the config.
            context: tokens that the model reads.

        Raises:
            ConfigError: not even one turn fits.
        """
        most = config.episode.max_turns
        action = action_tokens or config.episode.max_action_tokens
        prompt = config.prompt
        shown: int | None = prompt.window
        if prompt.history in ("full", "observations"):
            grows = prompt.history == "full" and prompt.history_thoughts
            shown = None if grows else most
        load = cls(
            episodes=config.train.tasks_per_step * config.train.num_generations,
            turns=turns or most,
            observation_tokens=observation_tokens,
            action_tokens=action,
            shown_turns=shown,
        )
        context = config.serving.context_length or context
        if load.turn_tokens > context:
            raise ConfigError(
                f"a turn of {observation_tokens} + {action} tokens does not fit into the context "
                f"of {context}: lower --observation-tokens or --action-tokens"
            )
        fits = load.turns if load.sample_tokens <= context else context // load.turn_tokens
        return cls(**{**vars(load), "turns": min(load.turns, fits)})

    @property
    def turn_tokens(self) -> int:
        """Tokens that a turn adds."""
        return self.observation_tokens + self.action_tokens

    @property
    def samples(self) -> int:
        """Samples of the learner: one for each episode, or for each turn if prompts are new."""
        return self.episodes * (1 if self.shown_turns is None else self.turns)

    @property
    def sample_tokens(self) -> int:
        """Tokens of a sample, which are also the most that a request has."""
        shown = self.turns - 1 if self.shown_turns is None else self.shown_turns
        return (min(shown, self.turns - 1) + 1) * self.turn_tokens

    @property
    def tokens(self) -> int:
        """Tokens of all samples."""
        return self.samples * self.sample_tokens

    @property
    def agent_tokens(self) -> int:
        """Tokens that the policy samples."""
        return self.episodes * self.turns * self.action_tokens

    @property
    def prefilled_tokens(self) -> int:
        """Tokens of prompts that the engine computes: those that its prefix cache cannot have."""
        if self.shown_turns is None:
            return self.episodes * self.turns * self.observation_tokens
        return self.tokens - self.agent_tokens
