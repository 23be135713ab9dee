"""A pack for the tests: gives the host a device that computes on the CPU, with so much memory as a workflow says."""

import sys
from pathlib import Path

import comfy.model_management as host
import torch
from comfy.patcher_extension import CallbacksMP

sys.path.append(str(Path(__file__).resolve().parent))  # ComfyUI has a link to this file
from watch_experts import Report, Watch

DEVICE = torch.device("cpu", 0)
capacity = 0  # bytes that the weights may take on the device
watched, events = {}, []


def room(free):
    taken = sum(entry.model_loaded_memory() for entry in host.current_loaded_models) if free else 0
    return int(host.minimum_inference_memory() + capacity - taken)


def figure(real, free):
    def of(dev=None, torch_too=False, **named):
        if dev not in (None, DEVICE):
            return real(dev, torch_too, **named)
        return (room(free), room(free)) if torch_too or any(named.values()) else room(free)

    return of


host.get_free_memory = figure(host.get_free_memory, free=True)
host.get_total_memory = figure(host.get_total_memory, free=False)
host.get_torch_device = lambda: DEVICE
on_cpu = host.is_device_cpu
host.is_device_cpu = lambda device: device != DEVICE and on_cpu(device)
host.vram_state = host.VRAMState.NORMAL_VRAM


def note(word, name):
    events.append([word, name, {name: patcher.loaded_size() for name, patcher in watched.items()}])


def watch(name, patcher):
    watched[name] = patcher
    patcher.add_callback(CallbacksMP.ON_LOAD, lambda *_: note("load", name))
    # The host also detaches a model that it keeps loaded: then not all is taken back.
    patcher.add_callback(CallbacksMP.ON_DETACH, lambda _, everything: everything and note("unload", name))
    if name != "language":
        patcher.model.diffusion_model.register_forward_pre_hook(lambda *_: note("step", name))


class ResidencyClip:
    """Watches a language model, too."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("CLIP",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"clip": ("CLIP",)}}

    def run(self, clip):
        events.clear()
        watch("language", clip.patcher)
        return (clip,)


class ResidencyWatch(Watch):
    @classmethod
    def INPUT_TYPES(cls):
        return {**super().INPUT_TYPES(), "optional": {"written": ("STRING", {"forceInput": True})}}

    def run(self, high, low, experts, written=None):
        global capacity
        for name, patcher in (("high", high), ("low", low)):
            if watched.get(name) is not patcher:
                watch(name, patcher)
        if capacity != int(experts * high.model_size()):
            host.unload_all_models()  # another device: nothing is on it yet
            capacity = int(experts * high.model_size())
        if written is None:
            events.clear()
        return high, low


class ResidencyReport(Report):
    def run(self, latent):
        sizes = [watched[name].model_size() for name in ("high", "low")]
        return {"ui": {"events": list(events), "sizes": sizes}}


NODE_CLASS_MAPPINGS = {
    "ResidencyClip": ResidencyClip,
    "ResidencyWatch": ResidencyWatch,
    "ResidencyReport": ResidencyReport,
}
