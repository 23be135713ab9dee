"""LoRA training: the loss and its gradients, frozen weights that need not fit the card, data, and the loop."""

from .checkpointing import checkpointed
from .lora import add_lora
from .losses import velocity_losses

__all__ = ["add_lora", "checkpointed", "velocity_losses"]
