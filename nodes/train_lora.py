"""A LoRA for both experts, trained on gathered clips."""

import re
from dataclasses import fields
from itertools import combinations
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..mova import MovaError
from ..mova.train.cache import INDEX, Cache, make_folder
from ..mova.train.frozen import BASES
from ..mova.train.lora import PARTS, TARGETS
from ..mova.train.output import by_expert, read_log, read_lora_told
from ..mova.train.plot import draw_plot
from ..mova.train.schedule import LR_SCHEDULES
from ..mova.train.settings import CHECKPOINTS, DTYPES, OPTIMIZERS, Settings, settings_from
from .host.experts import SLOTS, check_experts, connected_experts
from .host.training import base_of, check_trainable, train
from .host.training_places import CLIPS, LORAS, clips_folder, lora_path, name_fault

LoraModel, LossMap = io.Custom("LORA_MODEL"), io.Custom("LOSS_MAP")
ALL_PARTS = [",".join(some) for count in (3, 2, 1) for some in combinations(PARTS, count)]
OWN = -1  # warmup: as the command line has it
DEFAULT = Settings()
# Where an input is not called as the option of the command line.
CALLED = {"clip": "gradient_clip"}


def as_inputs(text: str) -> str:
    """A sentence that names options of the command line, in the names of the node's inputs."""
    text = text.replace("leave out --resume", "switch resume off").replace("(--resume goes", "(resume goes")
    text = text.replace("another --out", "another lora_name")
    return re.sub(r"--([a-z][a-z-]*)", lambda option: name_of(option[1].replace("-", "_")), text)


def name_of(setting: str) -> str:
    return CALLED.get(setting, setting)


def whole(name: str, least: int, most: int, tooltip: str, advanced: bool = True) -> io.Int.Input:
    default = getattr(DEFAULT, name)
    return io.Int.Input(
        name_of(name), default=default, min=least, max=most, tooltip=tooltip, optional=advanced, advanced=advanced
    )


def real(name: str, least: float, most: float, step: float, tooltip: str, advanced: bool = True) -> io.Float.Input:
    default = getattr(DEFAULT, name)
    limits = {"min": least, "max": most, "step": step}
    return io.Float.Input(
        name_of(name), default=default, **limits, round=False, tooltip=tooltip, optional=advanced, advanced=advanced
    )


def choice(name: str, options: Any, tooltip: str) -> io.Combo.Input:
    default = getattr(DEFAULT, name)
    return io.Combo.Input(name, options=list(options), default=default, tooltip=tooltip, optional=True, advanced=True)


def setting_inputs() -> list[Any]:
    """The settings of a run, by their names on the command line."""
    return [
        whole("steps", 1, 10**6, "Of the optimizer; both experts' together.", advanced=False),
        whole("rank", 1, 1024, "Of the LoRA: 8 to 32 are usual.", advanced=False),
        real("alpha", 0.01, 1e6, 0.01, "The LoRA counts alpha / rank times.", advanced=False),
        real("lr", 1e-9, 1.0, 1e-6, "Learning rate at its highest.", advanced=False),
        io.Int.Input(
            "seed",
            default=DEFAULT.seed,
            min=0,
            max=10**9 - 1,
            control_after_generate=io.ControlAfterGenerate.fixed,  # another one each time would never go on
            tooltip="Of all that chance decides. Another seed is another run.",
        ),
        choice("targets", TARGETS, "Attention, or the MLPs, too."),
        io.Combo.Input(
            "parts",
            options=ALL_PARTS,
            default=ALL_PARTS[0],
            tooltip="Which towers get a LoRA.",
            optional=True,
            advanced=True,
        ),
        choice(
            "base", BASES, "Frozen matrices in RAM: fp8, or as the file has them (bf16). fp8 files stay as they are."
        ),
        choice("dtype", DTYPES, "What is computed in."),
        choice("optimizer", OPTIMIZERS, "adamw8bit takes a quarter of the memory of adamw, and needs bitsandbytes."),
        choice("lr_schedule", LR_SCHEDULES, "Of the learning rate."),
        io.Int.Input(
            "warmup",
            default=OWN,
            min=OWN,
            max=10**6,
            tooltip="Steps in which the rate rises; -1: a twentieth of all, at most 500.",
            optional=True,
            advanced=True,
        ),
        real("weight_decay", 0.0, 1.0, 0.001, "Of AdamW."),
        real("clip", 1e-6, 1e6, 0.01, "Length that gradients are cut to."),
        whole("accumulation", 1, 10**4, "Clips in each step."),
        real("caption_dropout", 0.0, 0.99, 0.01, "Share of the clips that are seen without their caption."),
        whole("switch_every", 1, 10**6, "Steps after which the other expert is trained."),
        choice("checkpoints", CHECKPOINTS, "What is computed twice to save memory: pieces of layers, layers, none."),
        whole("resident_layers", 0, 1000, "Layers whose frozen matrices stay on the card."),
        io.Boolean.Input(
            "offload_activations",
            default=DEFAULT.offload_activations,
            tooltip="What layers are computed again from lies in RAM: much less memory on the card.",
            optional=True,
            advanced=True,
        ),
        whole("save_every", 1, 10**6, "Steps after which all is saved; a killed server loses those since."),
        whole("validate_every", 0, 10**6, "Steps after which the loss at fixed timesteps is measured; 0: never."),
    ]


def settings_of(experts: str, given: dict[str, Any]) -> Settings:
    """The settings in the node's inputs. Raises MovaError for what makes no sense."""
    named = {field.name: given[name_of(field.name)] for field in fields(Settings) if name_of(field.name) in given}
    named["parts"] = tuple(given.get("parts", ALL_PARTS[0]).split(","))
    if named.get("warmup") == OWN:
        del named["warmup"]
    return settings_from("ours", {**named, "experts": experts})


class MOVATrainLoRA(io.ComfyNode):
    """Training, from clips to a file that MOVA LoRA Loader lists."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVATrainLoRA",
            display_name="MOVA Train LoRA",
            category="MOVA/training",
            description="Trains a LoRA on gathered clips, for one expert or both, with audio tower and bridge. It goes "
            "on where it was stopped, and writes the LoRA to output/loras.",
            search_aliases=["train lora", "finetune", "lora trainer"],
            inputs=[
                io.Model.Input("model_high", optional=True, tooltip="The high-noise expert, straight from its loader."),
                io.Model.Input("model_low", optional=True, tooltip="The low-noise expert, straight from its loader."),
                io.String.Input(
                    "folder", default="my_clips", tooltip=f"In output/{CLIPS}; or link MOVA Training Clip, the last."
                ),
                io.String.Input("lora_name", default="my_lora", tooltip=f"The file in output/{LORAS}."),
                *setting_inputs(),
                io.Boolean.Input(
                    "resume",
                    default=True,
                    tooltip="Go on with this run where it was stopped, and do nothing if it is finished. Off: begin "
                    "anew, in place of what is there.",
                    optional=True,
                    advanced=True,
                ),
            ],
            outputs=[
                LoraModel.Output(display_name="lora_high", tooltip="For Load LoRA Model and Save LoRA Weights."),
                LoraModel.Output(display_name="lora_low", tooltip="For Load LoRA Model and Save LoRA Weights."),
                LossMap.Output(display_name="loss", tooltip="For Plot Loss Graph."),
                io.Int.Output(display_name="steps"),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, folder=None, lora_name=None) -> bool | str:
        """Before anything runs; what comes from other nodes is checked in execute."""
        given = {"folder": folder, "lora_name": lora_name}
        faults = (name_fault(slot, name) for slot, name in given.items() if isinstance(name, str))
        return next(filter(None, faults), None) or True

    @classmethod
    def fingerprint_inputs(cls, folder: str | None = None, **_: Any) -> float:
        """When the last clip was put into the folder; of a linked one the nodes before it tell."""
        if not isinstance(folder, str) or name_fault("folder", folder):
            return 0.0
        index = clips_folder(folder) / INDEX
        return index.stat().st_mtime if index.is_file() else float("nan")

    @classmethod
    def execute(
        cls, folder: str, lora_name: str, resume: bool = True, model_high=None, model_low=None, **given: Any
    ) -> io.NodeOutput:
        models = connected_experts(model_high, model_low, "the LoRA")
        if len(models) == 2:
            check_experts(model_high, model_low)
        for noise, model in models.items():
            check_trainable(model, SLOTS[noise])
        experts = "both" if len(models) == 2 else next(iter(models)).removesuffix("_noise")
        place, out = clips_folder(folder), lora_path(lora_name)
        if not (place / INDEX).is_file():
            raise MovaError(f"There is no clip in output/{CLIPS}/{folder}; gather some with MOVA Training Clip.")
        try:
            settings = settings_of(experts, given)
            make_folder(out.parent)
            device = next(iter(models.values())).load_device
            train(base_of(models), Cache(place), settings, out, device, resume)
        except MovaError as error:
            raise MovaError(as_inputs(str(error))) from error
        tensors, _ = read_lora_told(out)
        loras = by_expert(tensors)
        records = read_log(out.with_suffix(".csv"), settings.steps)
        losses = [float(record["video_loss"]) + float(record["audio_loss"] or 0) for record in records]
        plot = torch.from_numpy(np.array(draw_plot(records))).float()[None] / 255
        # What hangs on an expert that was not trained does not run.
        high, low = (loras.get(noise, ExecutionBlocker(None)) for noise in ("high_noise", "low_noise"))
        return io.NodeOutput(high, low, {"loss": losses}, settings.steps, ui=ui.PreviewImage(plot, cls=cls))
