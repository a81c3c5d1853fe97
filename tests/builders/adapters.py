"""Adapters (LoRA) as other programs write them."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from agent_rl.policy.loading import load_policy


def by_peft(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter as another program leaves it: peft's two files, with numbers."""
    model, _ = load_policy(str(base))
    known: dict[str, Any] = {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]}
    config = LoraConfig(task_type="CAUSAL_LM", **(known | options))
    torch.manual_seed(1)
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    adapted.save_pretrained(str(folder))
    return folder
