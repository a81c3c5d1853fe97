"""Training and evaluation from Python: the command line's stages as methods."""

from pathlib import Path
from typing import Any

from agent_rl.commands.export.folder import export
from agent_rl.commands.stages.evaluate import evaluate
from agent_rl.commands.stages.init import init
from agent_rl.commands.stages.sft import sft
from agent_rl.commands.stages.start import starting_policy
from agent_rl.commands.stages.train import train
from agent_rl.config import Config, ConfigError, EvaluationSettings, load_config
from agent_rl.evaluation.playing import Outputs
from agent_rl.evaluation.report import EvaluationReport
from agent_rl.runs.layout import RunLayout
from agent_rl.runs.trackers.packages import require_trackers
from agent_rl.runs.trajectories import load_trajectories
from agent_rl.training.summary import TrainingSummary, summary_of
from rollouts import Trajectory


class Trainer:
    """Trains and evaluates the policy of one config.

        trainer = Trainer("configs/demo.yaml", "run_folder=runs/mine")
        trainer.warm_start()
        trainer.train()
        print(trainer.evaluate().overall.success)
        trainer.save_model("my-policy")

    All files are in the config's `run_folder`, as `agent-rl` reads and writes them. A policy from
    scratch is made when one is first needed.

    Args:
        config: a checked `Config`, or a YAML file's path.
        overrides: `key.path=value`, for a YAML file.

    Raises:
        ConfigError: the file or an override is wrong.
    """

    def __init__(self, config: Config | str | Path, *overrides: str) -> None:
        assert not (overrides and isinstance(config, Config)), (
            "overrides are for a file; use config.model_copy"
        )
        self.config = config if isinstance(config, Config) else load_config(config, list(overrides))

    def warm_start(self, *, resume: bool = False) -> Path:
        """Warm-start the policy (`agent-rl sft`); returns the folder of the new policy.

        Args:
            resume: continue an unfinished warm start from its checkpoint, or start if there is
                none.
        """
        self._make_policy()
        return sft(self.config, resume=resume)

    def train(self, *, resume: bool = False) -> Path:
        """Train the policy with reinforcement learning (`agent-rl train`).

        Args:
            resume: continue after the newest checkpoint, or start if there is none.

        Returns:
            The newest checkpoint.
        """
        self._make_policy()
        return train(self.config, resume=resume)

    def evaluate(
        self,
        split: str | None = None,
        *,
        repeats: int | None = None,
        temperature: float | None = None,
        model: str | None = None,
        again: bool = False,
        **files: Path,
    ) -> EvaluationReport:
        """Evaluate a policy (`agent-rl evaluate`).

        Args:
            split: one split, or several with commas between; else the config's `evaluation.split`.
            repeats: how often to play each game; else `evaluation.repeats`.
            temperature: else `evaluation.temperature`.
            model: the path or hub name of a policy; else the run's newest.
            again: play all games again.
            files: `json`, `markdown` and `latex` are further files to write the report to.
        """
        options = {"split": split, "repeats": repeats, "temperature": temperature}
        values: dict[str, Any] = self.config.evaluation.model_dump()
        for key, value in options.items():
            if value is not None:
                values[key] = value
        evaluation = EvaluationSettings.model_validate(values)
        config = self.config.model_copy(update={"evaluation": evaluation})
        return evaluate(config, model=model, again=again, outputs=Outputs(**files))

    def report(self) -> TrainingSummary:
        """The run at a glance: its curves and evaluations, which a notebook shows."""
        return summary_of(self.config)

    def episodes(self, step: int | None = None) -> list[Trajectory]:
        """The episodes of a rollout step, group after group; a notebook shows each.

        Args:
            step: counted from 1; else the newest step whose episodes are kept.

        Raises:
            ConfigError: the episodes are not there, or damaged.
        """
        train = RunLayout(Path(self.config.run_folder)).train
        kept = dict(train.all_step_episodes())
        if step is None and not kept:
            raise ConfigError(f"{train.trajectories}: no episodes yet; train first")
        newest = max(kept, default=0) if step is None else step
        return load_trajectories(kept.get(newest, train.step_episodes(newest)))

    def save_model(self, folder: str | Path, *, dtype: str = "bfloat16") -> Path:
        """Write the newest policy with a model card (`agent-rl export`); returns its folder."""
        return export(self.config, starting_policy(self.config), to=Path(folder), dtype=dtype)

    def _make_policy(self) -> None:
        # Before a policy is made, which takes a while.
        require_trackers(self.config)
        run = RunLayout(Path(self.config.run_folder))
        if not self.config.model.path and not run.init.exists():
            init(self.config)
