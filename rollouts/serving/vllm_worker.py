"""What vLLM's worker does besides its own, in each of an engine's processes.

vLLM mixes the class into its worker, which it is given by name. So nothing here imports vLLM.
"""

from typing import Any

WORKER = f"{__name__}.EngineWorker"
"""The name for vLLM (`worker_extension_cls`)."""


class EngineWorker:
    """Methods that `collective_rpc` can call."""

    model_runner: Any
    """The worker's own."""

    def left_out_of_adapter(self) -> list[str]:
        """Return the layers of the adapter that vLLM leaves out, which it does without a word."""
        manager = self.model_runner.lora_manager._adapter_manager
        (loaded,) = manager.list_adapters().values()
        return sorted(loaded.loras.keys() - manager.modules.keys())

    def forget_expert_kernels(self) -> None:
        """Let the next `reload_weights` prepare the weights of experts as the first load did.

        vLLM packs them for its CPU kernel when it makes the kernel. If there is one already, a
        reload puts plain weights where the kernel expects packed ones, and says nothing.
        """
        for layer in self.model_runner.get_model().modules():
            method: Any = getattr(layer, "quant_method", None)
            if getattr(method, "moe_kernel", None) is not None:
                method.moe_kernel = None
