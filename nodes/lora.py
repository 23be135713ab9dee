"""LoRAs for all of MOVA: both experts, the audio tower and the bridge, in every spelling that trainers use."""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.lora
import folder_paths
import torch
from comfy_api.latest import io

from ..mova import JointModel, MovaConfig, MovaError
from ..mova.checkpoint.release import EXPERTS, JOINT
from ..mova.lora.experts import for_expert, noted_expert, unused_video
from ..mova.lora.file import CONFIGS
from ..mova.lora.fit import fit, left_out
from ..mova.lora.merge import merged
from ..mova.lora.names import ALPHA, UNNAMED
from ..mova.lora.reading import Lora, LoraFile, read_lora
from ..mova.model.shapes import expected_shapes
from ..mova.model.stored_config import EXPERT_NAMES
from ..mova.shorten import first_names
from .host import notice
from .host.checks import check_finite
from .host.experts import SLOTS, connected_experts

CATEGORY = "loras"


def lora_names() -> list[str]:
    """Files under models/loras, without the settings that trainers write beside them."""
    return [name for name in folder_paths.get_filename_list(CATEGORY) if Path(name).name not in CONFIGS]


@functools.lru_cache(maxsize=2)
def joint_shapes(config: MovaConfig) -> Mapping[str, tuple[int, ...]]:
    return expected_shapes(JointModel(config, device="meta"))


def patched(model: Any, modules: Mapping[str, Mapping[str, Lora]], strengths: Mapping[str, float]) -> Any:
    """A clone of the MODEL with the changes of each module at its strength, made by the host when it loads weights."""
    model = model.clone()
    shapes = joint_shapes(model.model.mova_config)
    for module, layers in modules.items():
        strength = strengths[module]
        if not strength:
            continue
        parts: dict[str, torch.Tensor] = {}
        targets: dict[str, str] = {}
        for name, lora in layers.items():
            layer = f"diffusion_model.{name}"
            if name in shapes:  # a parameter of a block itself (modulation), which the host's patcher leaves out
                # as_subclass: the GGUF loader's tensors are of a kind of their own.
                value = model.get_model_object(layer).as_subclass(torch.Tensor).detach().float()
                value = merged(value, [(lora, strength)])
                model.add_object_patch(layer, torch.nn.Parameter(value, requires_grad=False))
                continue
            targets[layer] = f"{layer}.weight"
            parts |= {f"{layer}.{part}": tensor for part, tensor in lora.parts.items()}
            if lora.alpha is not None:
                parts[f"{layer}.{ALPHA}"] = torch.tensor(lora.alpha, dtype=torch.float64)
        patches = comfy.lora.load_lora(parts, targets, log_missing=False)
        taken = model.add_patches(patches, strength)
        if left := [key for key in patches if key not in taken]:
            raise MovaError(f"ComfyUI cannot patch {first_names(left)} of this model; load it in another weight_dtype.")
    return model


def notices(file: LoraFile, connected: Mapping[str, Any]) -> list[str]:
    """What of the file may not be as its user meant it."""
    lines = unused_video(file, connected)
    noted = noted_expert(file) if UNNAMED in file.modules else None
    for expert in connected:
        if noted and expert != noted[0]:
            lines.append(
                f"the file's {noted[1]} says {EXPERT_NAMES[noted[0]]}, but it is on the {EXPERT_NAMES[expert]} expert, "
                f"too: connect only the expert that it is for"
            )
    return lines


def summary(expert: str, fitted: Mapping[str, Mapping[str, Lora]], strengths: Mapping[str, float]) -> str:
    """How many layers of each module are changed, and how strongly."""
    counts: dict[str, int] = {}
    for module, layers in fitted.items():
        kind = module if module in JOINT else UNNAMED
        counts[kind] = counts.get(kind, 0) + len(layers)
    names = {UNNAMED: "video", JOINT[0]: "audio", JOINT[1]: "bridge"}
    listed = [f"{names[k]} {n} layers at strength {strengths[k]:g}" for k, n in counts.items()]
    return f"{EXPERT_NAMES[expert]} expert: {', '.join(listed)}"


class MOVALoraLoader(io.ComfyNode):
    """Put a LoRA on both experts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        strength = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}
        slot_tip = "The {} expert. Leave it out if the file is for the other one (Wan 2.2 LoRAs are pairs of files)."
        return io.Schema(
            node_id="MOVALoraLoader",
            display_name="MOVA LoRA Loader",
            category="MOVA",
            description=(
                "Puts a LoRA on MOVA's video towers, audio tower and bridge: MOVA's own, DiffSynth's, PEFT's, "
                "diffusers', kohya's, LyCORIS', and those for Wan. What does not fit is left out. "
                "Several can follow each other."
            ),
            search_aliases=["load lora mova", "lora loader", "apply lora", "lora_weights.pt"],
            inputs=[
                io.Model.Input("model_high", optional=True, tooltip=slot_tip.format("high-noise")),
                io.Model.Input("model_low", optional=True, tooltip=slot_tip.format("low-noise")),
                io.Combo.Input("lora_name", options=lora_names(), tooltip="A file under models/loras."),
                io.Float.Input("strength_video", **strength, tooltip="Of what the file has for the video towers."),
                io.Float.Input("strength_audio", **strength, tooltip="Of what it has for the audio tower."),
                io.Float.Input("strength_bridge", **strength, tooltip="Of what it has for the bridge between them."),
            ],
            outputs=[
                io.Model.Output(display_name="high"),
                io.Model.Output(display_name="low"),
                io.String.Output(display_name="report", tooltip="What has been changed, and what has been left out."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lora_name: str | None = None, **_: Any) -> float:
        """When the file was written. A name from another node is not known yet (None): then it is always read."""
        path = lora_name and folder_paths.get_full_path(CATEGORY, lora_name)
        return os.path.getmtime(path) if path else float("nan")

    @classmethod
    def execute(
        cls,
        lora_name: str,
        strength_video: float,
        strength_audio: float,
        strength_bridge: float,
        model_high: Any = None,
        model_low: Any = None,
    ) -> io.NodeOutput:
        connected = connected_experts(model_high, model_low, "the LoRA")
        video = dict.fromkeys((*EXPERTS.values(), UNNAMED), strength_video)
        strengths = {**video, JOINT[0]: strength_audio, JOINT[1]: strength_bridge}
        for name, value in (("video", strength_video), ("audio", strength_audio), ("bridge", strength_bridge)):
            check_finite(value, f"strength_{name}")
        file = read_lora(Path(folder_paths.get_full_path_or_raise(CATEGORY, lora_name)))
        report = [f"{lora_name}, {file.scales()}"]
        fitted: dict[str, Mapping[str, Mapping[str, Lora]]] = {}
        absent, misfits = dict[str, None](), dict[str, None]()
        for expert, model in connected.items():
            part = for_expert(file, expert)
            if not part.modules:
                continue
            fitted[expert], without = fit(part, joint_shapes(model.model.mova_config))
            absent |= dict.fromkeys(without.absent)
            misfits |= dict.fromkeys(without.misfits)
            report.append(summary(expert, fitted[expert], strengths))
        if not fitted:
            slot = next(s for e, s in SLOTS.items() if e not in connected)
            raise MovaError(f"{lora_name} is for the other expert; connect that one, to {slot}.")
        report += left_out(file, list(absent), list(misfits))
        report += notices(file, connected)
        models = {e: patched(m, fitted[e], strengths) if e in fitted else m for e, m in connected.items()}
        notice.show("\n".join(report))
        return io.NodeOutput(models.get("high_noise"), models.get("low_noise"), "\n".join(report))
