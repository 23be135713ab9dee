"""What the pack knows of ComfyUI by name or place alone: keys, attributes set from outside, an argument's number."""

import ast
from collections.abc import Iterator
from pathlib import Path

from host_source import Host

# (where the host has it, the name, the file of ours that has it too); by hand, for nothing of ours says whose they are.
# A name is a key, the name of an argument that is given, or an attribute; not that of a variable or a parameter.
NAMES = (
    ("comfy.samplers", "context_handler", "nodes/host/context_windows.py"),
    ("comfy_extras.nodes_context_windows", "context_handler", "nodes/host/context_windows.py"),
    ("comfy.context_windows.IndexListContextHandler.evaluate_context_windows", "causal_anchor_index",
     "nodes/host/context_windows.py"),
    ("comfy.context_windows.IndexListContextHandler._get_latent_shapes", "latent_shapes", "nodes/host/base.py"),
    ("comfy.context_windows.WindowingState.patch_latent_shapes", "latent_shapes", "nodes/host/base.py"),
    ("comfy.context_windows.WindowingState.prepare_window", "modality_windows", "nodes/host/context_windows.py"),
    ("comfy.samplers.process_conds", "latent_shapes", "nodes/host/base.py"),
    ("comfy.samplers.encode_model_conds", "noise", "nodes/host/base.py"),
    ("comfy.samplers.encode_model_conds", "device", "nodes/host/base.py"),
    ("comfy.samplers", "sampler_pre_cfg_function", "nodes/host/guider.py"),
    ("comfy.samplers", "sampler_cfg_function", "nodes/host/guider.py"),
    ("comfy.samplers", "sampler_post_cfg_function", "nodes/host/guider.py"),
    ("comfy.model_patcher.ModelPatcher", "disable_dynamic", "nodes/loaders.py"),
    ("comfy.model_patcher.ModelPatcher", "disable_dynamic", "nodes/host/audio_vae.py"),
    ("comfy.ldm.wan.model.WanModel", "rope_options", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "patches_replace", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "double_block", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "grid_sizes", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "total_blocks", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "block_type", "nodes/host/model.py"),
    ("comfy.ldm.wan.model.WanModel", "block_index", "nodes/host/kernels.py"),
)  # fmt: skip

# (a method of the host, the name of its parameter, the file of ours and the constant there that says which it is)
PLACES = (("comfy.samplers.CFGGuider.outer_sample", "callback", "nodes/host/accessory.py", "CALLBACK"),)


def name_faults(host: Host) -> Iterator[tuple[str, str]]:
    """(file of ours, what the host lacks)"""
    for where, name, file in NAMES:
        found = host.find(where)
        if found is None or not found.known or name not in names_in(found.node):
            yield file, f"{where} no longer has the name {name}"


def place_faults(host: Host, pack: Path) -> Iterator[tuple[str, str]]:
    """(file of ours, which argument the host now has there)"""
    for where, name, file, constant in PLACES:
        found = host.find(where)
        taken = found and host.parameters(found)
        place = constant_of(pack / file, constant)
        if taken is None or taken.names[place : place + 1] != (name,):
            yield file, f"{name} is no longer argument {place} of {where}"


def names_in(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
    return found


def constant_of(file: Path, name: str) -> int:
    """A number at the top of a file; the file is not run."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == [name]:
            return ast.literal_eval(node.value)
    raise LookupError(f"{file} has no {name}")
