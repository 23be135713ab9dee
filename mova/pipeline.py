from typing import Any
import torch
from torch import nn
from . import onednn
from .attention import Attention, choose
def layers_for(device: torch.device) -> tuple[Any, Attention]:
    if device.type == "cpu" and onednn.available():
        return onednn.Operations, onednn.attention
    return nn, choose()
