"""What stands for the hub's repository of files for Wan: the two that the workflows name, small."""

from pathlib import Path

import torch
from hub import Hub
from safetensors.torch import save_file

from mova.download.singles import SINGLES, WAN


def wan_hub(folder: Path) -> Hub:
    """Write the files into a folder, and serve it."""
    for number, single in enumerate(SINGLES.values()):
        path = folder / single.name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"nothing": torch.full((100_000,), float(number))}, path)
    return Hub(folder, WAN)
