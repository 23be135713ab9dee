"""What the nodes of the probe share: that they run each time, and how tensors come in and go out."""

import os

import comfy.latent_formats
import comfy.nested_tensor
import folder_paths
from safetensors.torch import load_file, save_file

NestedTensor = comfy.nested_tensor.NestedTensor


class Node:
    CATEGORY = "tests"
    FUNCTION = "run"


class Fresh(Node):
    """Runs each time: files are read anew, and another test may have written over what was saved."""

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")


def tensors(name):
    return load_file(os.path.join(folder_paths.get_input_directory(), name))


def conditioning(text, condition):
    """The golden condition [B, 20, T, H, W] in Wan's conditioning entries."""
    wan = comfy.latent_formats.Wan21()
    entries = {"concat_mask": 1 - condition[:, :4], "concat_latent_image": wan.process_out(condition[:, 4:])}
    return [[text, entries]]


def saved(parts, name):
    """Write tensors to the output folder; what /view needs to find them."""
    parts = {key: part.detach().contiguous().clone() for key, part in parts.items()}
    save_file(parts, os.path.join(folder_paths.get_output_directory(), name))
    return {"filename": name, "type": "output", "subfolder": ""}
