"""The origin of an exported policy: the run and the stage that made it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent_rl.config import Config, dump_config
from agent_rl.config.keys import upgraded
from agent_rl.runs.layout import CONFIG_FILE, PolicyPlace, RunLayout, policy_place


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The origin of a policy."""

    source: str
    """The policy: a folder, a hub name or a .gguf file."""
    place: PolicyPlace | None
    """Its place in its run; None for a model that no run made."""
    config_text: str
    """The resolved config of the run, as YAML. It names no `prompt.template`: the exported
    tokenizer has that file's text."""

    @classmethod
    def of(cls, source: str, config: Config) -> "Origin":
        """Find the run by the policy's path.

        Args:
            source: the policy.
            config: used if the run recorded no config for the policy.
        """
        folder = Path(source).expanduser().resolve()
        place = policy_place(folder)
        # Each stage writes its config into the parent folder of its policy.
        recorded = folder.parent / CONFIG_FILE
        if place is not None and recorded.is_file():
            # An old run may have recorded old keys; the exported config is for today's commands.
            values = upgraded(yaml.safe_load(recorded.read_text()))
        else:
            values = yaml.safe_load(dump_config(config))
        prompt = values.get("prompt")
        if isinstance(prompt, dict) and prompt.get("template"):
            prompt["template"] = ""
        text = yaml.safe_dump(values, sort_keys=False)
        return cls(source=source, place=place, config_text=text)

    @property
    def kind(self) -> str:
        """The stage that made the policy: init, sft or train; `other` if no run made it."""
        return "other" if self.place is None else self.place.stage

    @property
    def run(self) -> RunLayout | None:
        """The run that made it; None for `other`."""
        return None if self.place is None else self.place.run

    @property
    def step(self) -> int | None:
        """The rollout step of its checkpoint; None if it is not one."""
        return None if self.place is None else self.place.step

    @property
    def finished_stage(self) -> str:
        """The last stage that this policy has completed.

        A checkpoint before the run's last one has not completed `train`, so it is `sft`.
        """
        if self.run is None or self.step is None:
            return self.kind
        return "train" if self.step == self.run.train.last_step() else "sft"

    @property
    def settings(self) -> dict[str, Any]:
        """The config's sections as plain values, not checked: an old run may have other keys."""
        loaded: dict[str, Any] = yaml.safe_load(self.config_text)
        return loaded
