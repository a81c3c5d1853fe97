"""The whole of it from Python: what the command line does, as methods."""

from pathlib import Path
from typing import Any

from agent_rl.commands.export.folder import export
from agent_rl.commands.stages import stages
from agent_rl.config import Config, EvaluationSettings, load_config
from agent_rl.evaluation.report import EvaluationReport


class Trainer:
    """Trains and evaluates the policy of one config.

        trainer = Trainer("configs/demo.yaml", "run_folder=runs/mine")
        trainer.warm_start()
        trainer.train()
        print(trainer.evaluate().overall.success)
        trainer.save_model("my-policy")

    What is written goes to the config's `run_folder`, and is what `agent-rl` reads and writes
    there. A policy from scratch is made when one is first needed.

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

    def warm_start(self) -> Path:
        """Expert episodes, then supervised epochs (`agent-rl sft`); returns the policy's folder."""
        self._make_policy()
        return stages.sft(self.config)

    def train(self, *, resume: bool = False) -> Path:
        """The reinforcement (`agent-rl train`), fresh or from the last whole checkpoint; returns
        the newest one.
        """
        self._make_policy()
        return stages.train(self.config, resume=resume)

    def evaluate(
        self,
        split: str | None = None,
        *,
        repeats: int | None = None,
        temperature: float | None = None,
        **options: Any,
    ) -> EvaluationReport:
        """Success per split and family of the newest policy (`agent-rl evaluate`), as `evaluation`
        says unless told.

        `split` may be several, with commas between. `options` are those of `stages.evaluate`.
        """
        told = {"split": split, "repeats": repeats, "temperature": temperature}
        values = {
            **self.config.evaluation.model_dump(),
            **{k: v for k, v in told.items() if v is not None},
        }
        evaluation = EvaluationSettings.model_validate(values)
        return stages.evaluate(self.config.model_copy(update={"evaluation": evaluation}), **options)

    def save_model(self, folder: str | Path, *, dtype: str = "bfloat16") -> Path:
        """The newest policy as a Hugging Face folder with a model card (`agent-rl export`)."""
        return export(
            self.config, stages.starting_policy(self.config), to=Path(folder), dtype=dtype
        )

    def _make_policy(self) -> None:
        folder = Path(self.config.run_folder)
        if not self.config.model.path and not (folder / "init").exists():
            stages.init(self.config)
