"""What is special about the weights of a mixture of experts.

transformers stacks the experts of a layer: `gate_up_proj` is [experts, 2 * width, hidden size] and
`down_proj` is [experts, hidden size, width]. A token goes through some of them only. In files each
expert has tensors of its own, and the engine reads them by these names.
"""

from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from agent_rl.policy.lora import without_wrapper


def is_stack(weight: Tensor) -> bool:
    """Return whether a weight holds the matrices of all experts of a layer, one after the other."""
    return weight.dim() == 3


def has_experts(model: nn.Module) -> bool:
    """Return whether a model is a mixture of experts."""
    return any(is_stack(weight) for weight in model.parameters())


def model_size(model: PreTrainedModel) -> str:
    """Return how many parameters a model has, and how many of them a token goes through.

    For example "5.21M parameters, 2.06M of them active".
    """
    parameters = sum(weight.numel() for weight in model.parameters())
    text = f"{parameters / 1e6:.2f}M parameters"
    if has_experts(model):
        text += f", {active_parameters(model) / 1e6:.2f}M of them active"
    return text


def active_parameters(model: PreTrainedModel) -> int:
    """Return the number of weights that a token goes through: of experts, only the chosen ones."""
    return sum(_active(model, weight) for weight in model.parameters())


def active_matrix_weights(model: PreTrainedModel, decoder: nn.Module) -> int:
    """Return the number of weights in a decoder's matrices that a token is multiplied by.

    An embedding is looked up, so it does not count.

    Args:
        model: the model, with or without an adapter.
        decoder: the model's.
    """
    return sum(
        _active(model, weight)
        for module in decoder.modules()
        if not isinstance(module, nn.Embedding)
        for weight in module.parameters(recurse=False)
        if weight.dim() > 1
    )


def in_files(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's weights as files have them: experts taken apart, under their own names.

    The tensors are views of the given ones. Without experts they are the given ones.

    Args:
        model: the model, with or without an adapter.
        weights: by the model's own names, whole.
    """
    inner = without_wrapper(model)
    if not weights or not has_experts(inner):
        return weights
    apart: dict[str, Tensor] = revert_weight_conversion(inner, weights)
    return {name: tensor.contiguous() for name, tensor in apart.items()}


def _active(model: PreTrainedModel, weight: Tensor) -> int:
    if not is_stack(weight):
        return weight.numel()
    config: Any = without_wrapper(model).config.get_text_config()
    chosen = getattr(config, "num_experts_per_tok", None) or weight.shape[0]
    return weight.numel() // weight.shape[0] * min(chosen, weight.shape[0])
