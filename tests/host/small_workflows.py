"""The shipped workflows with small models and sizes: what stands for the released models and the user's files."""

import contextlib
import json
import shutil
import tempfile
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from client import Server
from golden import drawn
from graphs import CONFIG, EXPERTS, write_files
from PIL import Image
from safetensors.torch import save_file

from authoring.pages import WORKFLOWS
from authoring.to_api import unfolded
from authoring.zh import ENGLISH
from mova.clip.media import write_clip

WORKFLOWS_FOLDER = Path(__file__).parents[2] / "workflows"
NAMES = list(WORKFLOWS)
ALL = [*NAMES, *ENGLISH]  # also those in Chinese
# Values of widgets by the node's type; linked inputs stay as they are.
SMALL_INPUTS = {
    "MOVAModelLoader": {"high_noise": "mova_high.safetensors", "low_noise": "mova_low.safetensors"},
    "MOVAAudioVAELoader": {"vae_name": "MOVA-golden/audio_vae"},
    "MOVALoraLoader": {"lora_name": "small.safetensors"},
    "MOVAConditioning": {"width": 48, "height": 32, "length": 9},
    "MOVAFitVideo": {"width": 48, "height": 32, "length": 9},
    "MOVAJointSampler": {"steps": 4},
    "MOVAScheduler": {"steps": 4},
    "SplitSigmas": {"step": 2},
    "LoadImage": {"image": "small.png"},
    "LoadVideo": {"file": "small.mp4"},
    "LoadAudio": {"audio": "small.wav"},
    "UNETLoader": {"unet_name": "wan.safetensors"},
    "MOVAEnhancePrompt": {"max_length": 64},
    "MOVATrainingClip": {"sizes": "48x32", "frames": "9"},
    "MOVATrainLoRA": {"steps": 2, "rank": 2, "warmup": 0, "resume": False},
}
# Nodes with the same outputs: ComfyUI knows both models in their released size only, and MOVA Size the releases'.
SMALL_NODES = {
    "VAELoader": ("ProbeWanVAE", {}),
    "CLIPLoader": ("ProbeClip", {}),
    "MOVASize": ("ProbeSize", {}),
    "KSampler": ("ProbePainted", None),  # with the inputs it has
}
DOUBLED = ("width", "height")  # of MOVA Conditioning where a workflow has a second, larger stage
WRITER = ("ProbeLanguageModel", {"kind": "Qwen3"})
FEWER_STEPS = {"MOVAJointSampler": {"steps": 2}, "MOVAScheduler": {"steps": 2}, "SplitSigmas": {"step": 1}}


def shipped(name: str, seed: int, others: Mapping[str, dict[str, Any]] = {}) -> dict[str, Any]:
    """A shipped workflow in API form with small models and sizes, and this seed; `others`: values by node type."""
    workflow = json.loads((WORKFLOWS_FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    for node in workflow.values():
        del node["_meta"]
        given = {**small_inputs(node), **others.get(node["class_type"], {})}
        given |= dict.fromkeys(("seed", "noise_seed"), seed)
        node["inputs"] |= {n: v for n, v in given.items() if not isinstance(node["inputs"].get(n, []), list)}
        make_small(node)
    return workflow


def small_inputs(node: dict[str, Any]) -> dict[str, Any]:
    """Values for a node of a shipped workflow in API form, which linked inputs do not need."""
    given = dict(SMALL_INPUTS.get(node["class_type"], {}))
    if node["class_type"] == "MOVAConditioning" and node["inputs"].get("width") == 1280:
        given |= {name: 2 * given[name] for name in DOUBLED}
    return given


def make_small(node: dict[str, Any]) -> None:
    """Another node with the same outputs in a node's place, if there is one."""
    kind, inputs = SMALL_NODES.get(node["class_type"], (None, None))
    if node["class_type"] == "CLIPLoader" and node["inputs"]["type"] != "wan":
        kind, inputs = WRITER
    if kind:
        node.update(class_type=kind, inputs=node["inputs"] if inputs is None else dict(inputs))


@contextlib.contextmanager
def small_server(comfyui: tuple[Path, Path]) -> Iterator[Server]:
    """A ComfyUI at work, in a folder of its own, that has all which the small workflows name."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(*comfyui, Path(folder))
        server.add_pack("comfyui-mova", WORKFLOWS_FOLDER.parent)
        server.add_pack("probe", Path(__file__).with_name("probe"))
        write_files(server.base)
        write_media(server.base)
        try:
            yield server.start()
        finally:
            server.stop()


def write_media(base: Path) -> None:
    """A picture, a clip of 12 frames of 96 x 64, a sound of 0.3 seconds, and a LoRA, where the workflows look."""
    Image.linear_gradient("L").save(base / "input/small.png")
    ramp = torch.linspace(0, 200, 96).byte().expand(12, 64, 96) + torch.arange(12, dtype=torch.uint8)[:, None, None] * 4
    write_clip(base / "input/small.mp4", ramp[..., None].expand(-1, -1, -1, 3).contiguous(), 24.0, None)
    tone = (8000 * np.sin(np.arange(13230) * 2 * np.pi * 440 / 44100)).astype(np.int16)
    with wave.open(str(base / "input/small.wav"), "wb") as file:
        file.setparams((2, 2, 44100, 0, "NONE", ""))
        file.writeframes(np.repeat(tone, 2).tobytes())
    width, layers = CONFIG["video_dit"]["dim"], [f"{expert}.blocks.0.self_attn.q" for expert in EXPERTS.values()]
    down, up = torch.from_numpy(drawn("down", (4, width))), torch.from_numpy(drawn("up", (width, 4)))
    folder = base / "models/loras"
    folder.mkdir(exist_ok=True)
    halves = {"A": down.float(), "B": up.float()}
    lora = {f"{layer}.lora_{name}.weight": half.clone() for layer in layers for name, half in halves.items()}
    save_file(lora, folder / "small.safetensors")


FOLDERS = {  # in which a node's files are
    "MOVAModelLoader": "models/diffusion_models",
    "VAELoader": "models/vae",
    "UNETLoader": "models/diffusion_models",
    "MOVAAudioVAELoader": "models/vae",
    "CLIPLoader": "models/text_encoders",
    "MOVALoraLoader": "models/loras",
    "MOVALoadConditioning": "output",
    "LoadImage": "input",
    "LoadVideo": "input",
    "LoadAudio": "input",
}


def named_files(base: Path) -> list[Path]:
    """Where the files belong that the workflows name as they are shipped."""
    found = set()
    for name in NAMES:
        canvas = json.loads((WORKFLOWS_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        for node in unfolded(canvas)[0].values():
            values = [str(value).removesuffix(" [output]") for value in node["widgets_values"]]
            found |= {base / FOLDERS[node["type"]] / v for v in values if node["type"] in FOLDERS and "." in v}
    return sorted(found)


def write_named(base: Path) -> list[Path]:
    """Put small files in those places, enough to open the workflows; the media are those of write_media."""
    paths = named_files(base)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        medium = base / f"input/small{path.suffix}"
        if path.parent.name == "input":
            shutil.copy(medium, path)
        else:
            save_file({"nothing": torch.zeros(1)}, path)
    return paths
